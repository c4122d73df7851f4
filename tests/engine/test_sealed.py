"""What a pair stores and sends of a secret: real logs, states, quarantine and keys, and every byte of the line."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.auth.effects import hash_password
from middlewared_plugins.auth.user import NOUN, SetUpAdministrator, secret_of
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import plugin as network

from middlewared.engine.registry import Registry
from middlewared.kernel.event import LOG_FORMAT
from middlewared.kernel.secret import KeyBundle, Sealed
from middlewared.plugin import Rewrap
from middlewared.shell.identity import Keys
from middlewared.shell.keyring import Keyring
from middlewared.store.rebuild import rebuild
from tests import planted
from tests.engine.controllers import Controller, until
from tests.engine.pair import End, Pair

PASSWORD = "pw-8vQ2-plain"
REGISTRY = Registry((auth, network, failover))


class Listening:
    """A pair whose line is written down, and the keys that both controllers hold."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        self.pair = pair
        self.sent: list[bytes] = []
        self.ring = Keyring(Keys(directory / "keyring", "A"))
        carry = pair.wire.carry

        def written_down(end: End, body: bytes) -> None:
            self.sent.append(body)
            carry(end, body)

        pair.wire.carry = written_down  # type: ignore[method-assign]

    def stored(self, controller: Controller) -> Sealed | str:
        return controller.engine.state(NOUN).all[0].password_hash

    async def rewrap(self, by: Controller, request_id: str) -> None:
        """As system.secrets.rewrap does it."""
        old = self.stored(by)
        assert isinstance(old, Sealed)
        text = await self.ring.open(NOUN.name, secret_of("root"), old)
        await self.ring.activate(await self.ring.add_key())
        new = await self.ring.seal(NOUN.name, secret_of("root"), text)
        await by.execute(Rewrap(noun=NOUN.name, envelopes={secret_of("root"): (old, new)}), request_id)


async def test_neither_the_logs_nor_the_states_nor_quarantine_nor_the_line_holds_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    data = tmp_path / "data"
    data.mkdir()
    async with Pair(data, registry=REGISTRY, log_format=LOG_FORMAT) as pair:
        listening = Listening(pair, tmp_path)
        await pair.in_sync()
        password_hash = await hash_password(PASSWORD)
        sealed = await listening.ring.seal(NOUN.name, secret_of("root"), password_hash)
        await pair.a.execute(SetUpAdministrator(username="root", password_hash=sealed), "1")
        await listening.rewrap(pair.a, "2")
        await pair.equal()
        assert listening.stored(pair.a) == listening.stored(pair.b) != sealed
        pair.wire.cut()
        await listening.rewrap(pair.a, "3")
        await pair.take_over(pair.b, forced=True)
        await pair.b.opened()
        pair.a.stand(2)
        pair.wire.connect()
        await until(lambda: pair.a.quarantined == 1)
        await pair.equal()
        assert await listening.ring.open(NOUN.name, secret_of("root"), envelope(listening, pair.a)) == password_hash
        remade = tmp_path / "data" / "remade.db"
        rebuild(pair.a.log, remade, REGISTRY.catalogue, REGISTRY.nouns.values())
    secrets = {"password": PASSWORD.encode(), "hash": password_hash.encode()}
    bundle = listening.ring.bundle()
    assert isinstance(bundle, KeyBundle)
    secrets |= bundle.keys
    files = [path for path in data.rglob("*") if path.is_file()]
    assert {"log.db", "state.db", "remade.db"} <= {path.name for path in files}
    assert any("quarantine" in path.parts for path in files)
    line = b"".join(listening.sent) + caplog.text.encode()
    assert planted.found_in_files(files, secrets) == {}
    assert planted.found_in(line, secrets) == set()
    assert planted.found_in(line, {"envelope": msgspec.json.encode(sealed)}) == {"envelope"}


def envelope(listening: Listening, controller: Controller) -> Sealed:
    found = listening.stored(controller)
    assert isinstance(found, Sealed)
    return found


async def test_a_log_of_the_first_format_is_read_with_the_plain_hash_that_it_holds(tmp_path: Path) -> None:
    async with Pair(tmp_path, registry=REGISTRY) as pair:
        await pair.alone()
        await pair.a.execute(SetUpAdministrator(username="root", password_hash="$argon2id$x"))
        assert pair.a.kinds()[-1] == "user.administrator.set_up"
        await pair.restart("A")
        assert pair.a.engine.state(NOUN).all[0].password_hash == "$argon2id$x"
