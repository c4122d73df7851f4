"""The parts put together: what keeps a daemon from starting, pairing, and one that starts, serves and ends.

No daemon of these tests runs in the machine's own namespaces: two of them need root.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from middlewared_plugins.network.configuration import Update

from middlewared.client import Client
from middlewared.config import BootFile, Interlink
from middlewared.daemon import Daemon
from middlewared.engine.line_ends import LineEnds
from middlewared.kernel.errors import CallFailed, LogDamaged, MiddlewareError, PortFailed, Refused
from middlewared.kernel.facts import Vip
from middlewared.protocol.replication_owner import Owner
from middlewared.shell.identity import Cluster, Keys
from middlewared.shell.upkeep import Upkeep
from middlewared.store.backup import Manifest
from middlewared.store.lock import DataDirectory
from middlewared.store.reader import LogReader
from tests.engine.standing import standing
from tests.shell.loopback import interlinks, until

NEEDS_ROOT = "needs root: network, mount and UTS namespaces without a user namespace"


def boot(directory: Path, interlink: Interlink | None = None) -> BootFile:
    return BootFile(node="A", data_dir=str(directory / "data"), run_dir=str(directory), interlink=interlink)


async def refusal(file: BootFile) -> str:
    with pytest.raises(MiddlewareError) as error:
        Daemon(file)
    return str(error.value)


class Built:
    """A daemon that is built and never run: it touches its data directory and nothing else."""

    def __init__(self, file: BootFile) -> None:
        self.daemon = Daemon(file)

    async def serve_alone(self) -> None:
        """As when fenced says that it stands alone."""
        term = self.daemon._log.head().term + 1
        self.daemon._tenure.heard(standing("SINGLE", term))
        await until(lambda: self.daemon._controller.status() == "SINGLE")

    async def execute(self, command: Update) -> None:
        await self.daemon._engine.execute(command, actor="eva", origin="here", request_id="r")

    async def close(self) -> None:
        await self.daemon._close_stores()


@pytest.fixture
async def single(tmp_path: Path) -> AsyncIterator[Built]:
    """A controller with an interlink, never paired, that stands alone."""
    made = Built(boot(tmp_path, interlinks()[0]))
    await made.serve_alone()
    yield made
    await made.close()


# What keeps it from starting


async def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    assert await refusal(boot(tmp_path)) == f"use the data directory {tmp_path}/data: {tmp_path}/data: File exists"


async def test_a_data_directory_that_another_process_has_is_named_with_that_process(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data"):
        assert await refusal(boot(tmp_path)) == (
            f"use the data directory {tmp_path / 'data'}: process {os.getpid()} has it open"
        )


async def test_a_log_in_which_a_byte_was_flipped_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    built = Built(boot(tmp_path))
    await built.serve_alone()
    await built.execute(Update(domain="find-me.example"))
    await built.close()
    log = tmp_path / "data" / "log.db"
    whole = log.read_bytes()
    log.write_bytes(whole.replace(b"find-me", b"find-mf"))
    with pytest.raises(LogDamaged, match=r"data/log\.db: seq 3: its bytes do not give its hash"):
        Daemon(boot(tmp_path))
    assert log.read_bytes() == whole.replace(b"find-me", b"find-mf")


async def test_a_file_of_the_cluster_that_is_damaged_is_named(tmp_path: Path) -> None:
    Keys(tmp_path / "data", "A")
    (tmp_path / "data" / "keys" / "cluster.json").write_text("{")
    assert (await refusal(boot(tmp_path))).startswith(f"{tmp_path}/data/keys/cluster.json: ")


async def test_a_state_db_that_is_lost_or_damaged_is_made_again_from_the_log(tmp_path: Path) -> None:
    built = Built(boot(tmp_path))
    await built.serve_alone()
    await built.execute(Update(domain="lab.example"))
    digest = await built.daemon._engine.state_digest()
    await built.close()
    for content in (None, b"no database at all"):
        for file in (tmp_path / "data").glob("state.db*"):
            file.unlink()
        if content is not None:
            (tmp_path / "data" / "state.db").write_bytes(content)
        again = Built(boot(tmp_path))
        assert await again.daemon._engine.state_digest() == digest
        await again.close()


# A backup


def command(*arguments: object) -> str:
    """What `middlewared ARGUMENTS` prints."""
    argv = [sys.executable, "-m", "middlewared.command", *map(str, arguments)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


async def test_a_backup_that_is_unpacked_on_a_fresh_controller_is_its_configuration(
    single: Built, tmp_path: Path
) -> None:
    for n in range(20):
        await single.execute(Update(domain=f"n{n}.example"))
    writing = asyncio.create_task(single.execute(Update(domain="during.example")))
    steps: list[tuple[float, str]] = []
    made = await Upkeep(tmp_path / "data", "A").save_config(lambda percent, what: steps.append((percent, what)))
    await writing
    (archive,) = (tmp_path / "data" / "backup").iterdir()
    assert str(archive) == made.path
    assert (archive.stat().st_mode & 0o777, archive.stat().st_size, steps[-1][0]) == (0o600, made.size, 100)
    fresh = tmp_path / "fresh"
    with tarfile.open(archive) as tar:
        tar.extractall(fresh / "data")
        manifest = msgspec.json.decode((fresh / "data" / "manifest.json").read_bytes(), type=Manifest)
    assert (manifest.seq, manifest.state.digest) == (made.seq, made.digest)
    assert hashlib.sha256((fresh / "data" / "log.db").read_bytes()).hexdigest() == manifest.files["log.db"].sha256
    assert "intact" in command("log", "verify", fresh / "data" / "log.db")
    again = Built(boot(fresh))
    assert await again.daemon._engine.state_digest() == (manifest.state.seq, manifest.state.digest)
    await again.serve_alone()
    await again.execute(Update(domain="goes-on.example"))
    await again.close()


async def test_a_state_that_is_made_anew_from_a_backups_log_is_the_same(single: Built, tmp_path: Path) -> None:
    await single.execute(Update(domain="lab.example"))
    digest = (await single.daemon._engine.state_digest())[1]
    made = await Upkeep(tmp_path / "data", "A").save_config(lambda *_: None)
    fresh = tmp_path / "fresh"
    with tarfile.open(made.path) as tar:
        tar.extract("log.db", fresh / "data")
    again = Built(boot(fresh))
    assert (await again.daemon._engine.state_digest())[1] == digest
    await again.close()


# Roles and terms


async def test_each_start_of_a_single_controller_writes_in_a_new_term(tmp_path: Path) -> None:
    for _ in range(2):
        built = Built(boot(tmp_path))
        await built.serve_alone()
        await built.close()
    with LogReader(tmp_path / "data" / "log.db") as log:
        assert [(record.term, record.kind) for record in log.since(0, 9)] == [
            (1, "term.begin"),
            (1, "log.format.raised"),
            (2, "term.begin"),
        ]


async def test_the_term_in_which_a_controller_stood_alone_is_the_floor_of_its_pairs_terms(tmp_path: Path) -> None:
    built = Built(boot(tmp_path))
    await built.serve_alone()
    assert built.daemon._fence._single_term == 1
    await built.close()
    keys = Keys(tmp_path / "data", "A")
    keys.pair(Cluster.new(), keys.certificate)
    paired = Built(boot(tmp_path, interlinks()[0]))
    assert paired.daemon._fence._single_term == paired.daemon._log.head().term == 1
    await paired.close()


async def test_one_of_a_pair_never_stands_alone(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "data", "A")
    keys.pair(Cluster.new(), keys.certificate)
    built = Built(boot(tmp_path, interlinks()[0]))
    for term in (1, 0):
        built.daemon._tenure.heard(standing("SINGLE", term))
        await built.daemon._replicator.hash_at(1)
    assert not isinstance(built.daemon._replicator.replica.side, Owner)
    assert built.daemon._controller.status() == "ELECTING"
    assert built.daemon._controller.facts().paired
    await built.close()


async def test_the_active_controllers_urls_follow_the_address_and_the_port(tmp_path: Path) -> None:
    file = boot(tmp_path)
    built = Built(file)
    assert built.daemon._active_urls() == ()
    for address, url in (("10.0.0.9", "http://10.0.0.9"), ("fd00::9", "http://[fd00::9]")):
        await built.daemon._fence.set_vips([Vip(vhid=7, address=address, prefix=32, interface="lan0")])
        assert built.daemon._active_urls() == (url,)
    await built.close()


# Pairing


async def test_a_controller_that_somebody_has_configured_joins_only_when_told_to_discard(single: Built) -> None:
    await single.execute(Update(domain="lab.example"))
    with pytest.raises(Refused) as error:
        await single.daemon._controller.join("AAAA-" * 8, "127.0.0.1", discard_mine=False)
    ((field, why, _),) = error.value.problems
    assert field == "discard_mine"
    assert "network.configuration.updated is in its log" in why
    with pytest.raises(Refused, match="code"):
        await single.daemon._controller.join("nonsense", "127.0.0.1", discard_mine=True)


async def test_a_new_controller_joins_and_its_log_is_set_aside_whole(single: Built, tmp_path: Path) -> None:
    other = tmp_path / "other"
    theirs = interlinks()[0]
    first = Built(BootFile(node="B", data_dir=str(other), run_dir=str(tmp_path), interlink=theirs))
    code = await first.daemon._controller.open_pairing()
    assert single.daemon._boot.interlink is not None
    single.daemon._boot = BootFile(node="A", data_dir=str(tmp_path / "data"), run_dir=str(tmp_path), interlink=theirs)
    await single.daemon._controller.join(code, "127.0.0.1", discard_mine=False)
    await until(lambda: first.daemon._over.done() and single.daemon._over.done())
    assert (first.daemon._over.result(), single.daemon._over.result()) == (0, 0)
    assert Keys(tmp_path / "data", "A").cluster == Keys(other, "B").cluster is not None
    (aside,) = (tmp_path / "data" / "set-aside").iterdir()
    with LogReader(aside / "log.db") as log:
        assert [record.kind for record in log.since(0, 9)] == ["term.begin", "log.format.raised"]
    assert not (tmp_path / "data" / "log.db").exists()
    await first.close()


async def test_without_an_interlink_there_is_nobody_to_pair_with(tmp_path: Path) -> None:
    built = Built(boot(tmp_path))
    for work in (built.daemon._controller.open_pairing(), built.daemon._controller.join("x", "y", False)):
        with pytest.raises(CallFailed, match="no \\[interlink\\]"):
            await work
    await built.close()


# What ends it


async def test_a_part_that_fails_ends_the_daemon_and_one_that_is_cancelled_does_not(single: Built) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async def broken() -> None:
        raise PortFailed("listen", "no such address")

    single.daemon._spawn(forever())
    single.daemon._tasks[-1].cancel()
    await asyncio.wait(single.daemon._tasks)
    assert not single.daemon._over.done()
    single.daemon._spawn(broken())
    await until(single.daemon._over.done)
    assert single.daemon._over.result() == 1


async def test_frames_of_a_line_that_was_replaced_are_not_taken(single: Built) -> None:
    ends: Any = LineEnds(single.daemon._replicator, single.daemon._peer)

    class Silent:
        def send(self, frame: object) -> None:
            return None

        def drop(self, why: str) -> None:
            return None

    old, new = Silent(), Silent()
    ends.up(old)
    ends.up(new)
    ends.down(old)
    assert single.daemon._replicator.line is new


# The process


def process(directory: Path, listen: str) -> subprocess.Popen[bytes]:
    """`middlewared serve` with its own network, host name and mounts."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail(NEEDS_ROOT)
        pytest.skip(NEEDS_ROOT)
    (directory / "run").mkdir()
    file = directory / "boot.toml"
    file.write_text(f'node = "A"\ndata_dir = "{directory}/data"\nrun_dir = "{directory}/run"\nlisten = "{listen}"\n')
    program = "from middlewared.command import main; main()"
    argv = [sys.executable, "-c", program, "serve", "--config", str(file)]
    return subprocess.Popen(["unshare", "--net", "--uts", "--mount", *argv], stderr=subprocess.PIPE)


async def test_it_serves_on_its_socket_without_fenced_and_ends_in_good_order(tmp_path: Path) -> None:
    started = process(tmp_path, "127.0.0.1:80")
    try:
        socket = tmp_path / "run/middlewared.sock"
        await until(lambda: socket.exists() or started.poll() is not None)
        async with Client(f"ws+unix://{socket}", patience_s=5.0) as client:
            assert await client.call("core.ping") == "pong"
            assert await client.call("failover.status") == "ELECTING"
            assert await client.call("system.ready") is False
        started.send_signal(signal.SIGTERM)
        _, err = await asyncio.to_thread(started.communicate, None, 10)
    finally:
        started.kill()
        started.wait()
    assert started.returncode == 0
    assert b"Traceback" not in err
    assert b"event=ready node=A" in err


def test_what_keeps_it_from_starting_is_the_last_line_and_the_exit_status_is_1(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "data"):
        started = process(tmp_path, "127.0.0.1:80")
        try:
            _, err = started.communicate(timeout=10)
        finally:
            started.kill()
            started.wait()
    assert started.returncode == 1
    assert err.decode().splitlines() == [
        f"middlewared: use the data directory {tmp_path}/data: process {os.getpid()} has it open"
    ]
