"""No secret is anywhere but in `keys/`: not in a file of a controller, not on a shared disk, not on the interlink.

Needs root. What is looked for: the administrator's password, its hash, a wrong password, and every raw key.
"""

from __future__ import annotations

import asyncio
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from middlewared_plugins.auth.user import NOUN, AdministratorSetUpSealed

from middlewared.client import Client
from middlewared.kernel.errors import MiddlewareError, NotAuthorized
from middlewared.kernel.secret import KeyBundle, Sealed
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.shell.identity import Cluster, Keys
from middlewared.shell.keyring import Keyring
from tests import planted
from tests.integration.conftest import records, write_at_vip

pytestmark = pytest.mark.root

IN_MEMORY = "fenced.state"
"""In /run, which no power loss outlives: what fenced must know again when it was killed, the cluster's key too."""
WRONG = "wrong-password-Zq7tK2mW"
CAPTURE_AT_MOST_S = 30.0
CAPTURE = """
import pathlib, socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("il0", 0))
s.settimeout(0.1)
end = time.monotonic() + float(sys.argv[3])
with open(sys.argv[1], "wb") as file:
    while not pathlib.Path(sys.argv[2]).exists():
        assert time.monotonic() < end, "nobody ended the capture"
        try:
            file.write(s.recv(65535))
        except TimeoutError:
            pass
"""
"""Every frame of the interlink, of both directions, into a file, until another file is there."""


def keys_of(pair: Pair) -> dict[str, bytes]:
    """Every raw key of both controllers, by where it lies."""
    found: dict[str, bytes] = {}
    for node in NODES:
        directory = pair.layout.machine(node) / "keys"
        bundle = msgspec.json.decode((directory / "secrets.json").read_bytes(), type=KeyBundle)
        cluster = msgspec.json.decode((directory / "cluster.json").read_bytes(), type=Cluster)
        private = (directory / "node.key").read_text().splitlines()[1].encode()
        found |= {f"{node} {kid}": key for kid, key in bundle.keys.items()}
        found |= {f"{node} cluster": cluster.key, f"{node} node.key": private}
    return found


def hash_in(pair: Pair) -> str:
    """The hash of the administrator's password, as it was closed in the first envelope of A's log."""
    [record] = [r for r in records(pair, "A") if r.kind == AdministratorSetUpSealed.kind]
    event = msgspec.json.decode(record.payload, type=AdministratorSetUpSealed)
    ring = Keyring(Keys(pair.layout.machine("A"), "A"))
    return asyncio.run(ring.open(NOUN.name, f"{event.username}.password_hash", event.password_hash))


async def exercise(pair: Pair) -> None:
    """Right and wrong logins, refusals that carry the password, writes, and every secret closed anew."""
    up = pair.result
    async with Client(up.vip_url, username=up.user, password=up.password) as client:
        await client.call("auth.me")
        for bad in ([up.user, up.password, 5], [{"username": up.user, "password": up.password}]):
            with pytest.raises(MiddlewareError):
                await client.call("auth.login", *bad)
        with pytest.raises(MiddlewareError):
            await client.call("user.setup_local_administrator", up.user, up.password)
        told = await client.call("system.secrets.rewrap")
        assert isinstance(told, dict)
        assert told["rewrapped"] == 1
        assert len(told["key_ids"]) == 2
    for node in NODES:
        with pytest.raises(MiddlewareError):
            async with Client(f"ws+unix://{pair.layout.api_socket(node)}") as root:
                await root.call("user.setup_local_administrator", "Not A Name", WRONG)
    with pytest.raises(NotAuthorized):
        async with Client(up.vip_url, username=up.user, password=WRONG) as client:
            await client.call("auth.me")


def test_no_secret_is_in_any_file_or_on_the_interlink(pair: Pair, tmp_path: Path) -> None:
    told = pair.call("A", "system.secrets.status")
    assert isinstance(told, dict)
    assert (told["equal"], told["plain"]) == (True, 0)
    captured, enough = tmp_path / "interlink", tmp_path / "enough"
    words = (sys.executable, "-c", CAPTURE, str(captured), str(enough), str(CAPTURE_AT_MOST_S))
    with ThreadPoolExecutor(1) as threads:
        script = threads.submit(pair.run, "A", *words, timeout_s=CAPTURE_AT_MOST_S + 20)
        try:
            pair.wait_until("the capture runs", captured.exists, within_s=10)
            pair.kill("B", "middlewared")  # So that the line is built up, and the handshake is seen too.
            pair.wait_until("both in sync", lambda: pair.is_whole("A"), within_s=10)
            asyncio.run(exercise(pair))
            write_at_vip(pair, domain="secrets.test")
            pair.wait_until("the last write is applied on both", lambda: pair.is_whole("A"), within_s=10)
        finally:
            enough.touch()
        script.result()
    secrets = {"password": pair.result.password.encode(), "hash": hash_in(pair).encode(), "wrong": WRONG.encode()}
    secrets |= keys_of(pair)
    assert captured.stat().st_size > 10_000
    held = [
        path
        for top in (*map(pair.layout.machine, NODES), pair.layout.shelf)
        for path in top.rglob("*")
        if path.is_file() and path.parent.name != "keys" and path.name != IN_MEMORY
    ]
    assert {"log.db", "state.db", "middlewared.log"} <= {path.name for path in held}
    assert planted.found_in_files([*held, captured], secrets) == {}
    assert all(stat.S_IMODE((pair.layout.run(node) / IN_MEMORY).stat().st_mode) == 0o600 for node in NODES)
    # What must be found, for the search to mean anything.
    assert planted.found_in_files(held, {"envelope": msgspec.json.encode(last_envelope(pair))}) != {}


def last_envelope(pair: Pair) -> Sealed:
    last = [r for r in records(pair, "A") if r.kind == "user.secrets.rewrapped"][-1]
    envelopes: dict[str, Sealed] = msgspec.json.decode(last.payload, type=dict[str, dict[str, Sealed]])["envelopes"]
    return next(iter(envelopes.values()))


def test_after_a_failover_the_other_controller_opens_what_the_first_closed(pair: Pair) -> None:
    asyncio.run(rewrapped(pair))
    pair.power_off("A")
    pair.wait_until("B is active", lambda: (pair.role("B"), pair.vip_owner()) == ("MASTER", "B"), within_s=6)
    write_at_vip(pair, domain="opened.test")  # It logs in with the password.
    pair.power_on("A")
    pair.wait_until("A is standby in sync", lambda: pair.is_whole("B"), within_s=8)


async def rewrapped(pair: Pair) -> None:
    up = pair.result
    async with Client(up.vip_url, username=up.user, password=up.password, patience_s=5.0) as client:
        await client.call("system.secrets.rewrap", False)
        told = await client.call("system.secrets.status")
        assert isinstance(told, dict)
        assert (told["equal"], len(told["key_ids"]), told["plain"]) == (True, 1, 0)
