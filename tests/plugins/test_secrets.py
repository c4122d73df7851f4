from __future__ import annotations

import msgspec
import pytest
from middlewared_plugins.auth import login, user
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.auth.attempts import Attempts
from middlewared_plugins.auth.user import Account, Accounts, SetUpAdministrator
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import plugin as network
from middlewared_plugins.system import plugin as system
from middlewared_plugins.system import secrets

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.duties import DutyContext
from middlewared.engine.peer import Questions
from middlewared.engine.registry import Registry
from middlewared.engine.rewrap import FIELDS_AN_EVENT
from middlewared.engine.standin import MemoryEngine, dispatcher
from middlewared.engine.standin_parts import MemorySecrets
from middlewared.kernel.errors import CallFailed
from middlewared.kernel.secret import KeyBundle, Sealed
from middlewared.plugin import Rewrap
from tests.plugins.client import Client


class World:
    def __init__(self) -> None:
        self.api: Dispatcher
        self.api, self.engine, _ = dispatcher(system, auth, network, failover)
        self.keys = MemorySecrets()
        self.engine.secrets = self.keys
        self.admin = Client(self.api, local_root=True)

    def is_a_pair(self, *, in_sync: bool = True) -> None:
        self.engine.facts_now = msgspec.structs.replace(
            self.engine.facts_now, paired=True, peer_connected=True, in_sync=("A", "B") if in_sync else ("A",)
        )

    @property
    def stored(self) -> Sealed | str:
        account: Account = self.engine.states["user"].all[0]
        return account.password_hash


@pytest.fixture
async def world() -> World:
    login._attempts = Attempts()
    made = World()
    await made.admin.call("user.setup_local_administrator", "root", "s3cret")
    return made


async def test_the_status_counts_the_secrets_under_each_key(world: World) -> None:
    assert await world.admin.call("system.secrets.status") == {
        "key_ids": ["k1"],
        "active": "k1",
        "peer_key_ids": None,
        "equal": None,
        "secrets": {"k1": 1},
        "plain": 0,
    }


async def test_after_a_rewrap_everything_is_under_the_new_key_and_the_password_still_fits(world: World) -> None:
    told = await world.admin.call("system.secrets.rewrap")
    assert told == {"key_id": "k2", "rewrapped": 1, "key_ids": ["k1", "k2"]}
    assert isinstance(world.stored, Sealed)
    assert world.stored.kid == "k2"
    assert await Client(world.api).call("auth.login", "root", "s3cret") is True


async def test_old_keys_are_forgotten_when_that_is_wanted_here_and_there(world: World) -> None:
    world.is_a_pair()
    world.engine.peer = {"system.secrets.keep": None, "system.secrets.drop": None, "system.secrets.ids": ["k2"]}
    told = await world.admin.call("system.secrets.rewrap", False)
    assert told["key_ids"] == ["k2"]
    assert [asked[0] for asked in world.engine.asked] == ["system.secrets.keep", "system.secrets.drop"]
    assert world.engine.asked[-1][1] == ["k1"]
    assert (await world.admin.call("system.secrets.status"))["equal"] is True


async def test_the_other_controller_has_the_new_key_before_anything_is_closed_with_it(world: World) -> None:
    world.is_a_pair()
    world.engine.peer = {"system.secrets.keep": CallFailed(5, "its disk is full")}
    told = await world.admin.call("system.secrets.rewrap")
    assert told["reason"] == "its disk is full"
    assert isinstance(world.stored, Sealed)
    assert (world.stored.kid, world.keys.active) == ("k1", "k1")


async def test_no_rewrap_while_the_other_controller_is_not_in_sync(world: World) -> None:
    world.is_a_pair(in_sync=False)
    told = await world.admin.call("system.secrets.rewrap")
    assert "not in sync" in told["reason"]
    assert world.keys.ids() == ("k1",)


async def test_no_rewrap_in_a_log_that_has_no_envelopes(world: World) -> None:
    world.engine.facts_now = msgspec.structs.replace(world.engine.facts_now, log_format=1)
    assert "upgrade.finalize" in (await world.admin.call("system.secrets.rewrap"))["reason"]


async def test_a_rewrap_closes_what_an_old_log_holds_as_it_is(world: World) -> None:
    await world.admin.call("system.secrets.status")
    text = await world.keys.open("user", "root.password_hash", world.stored)  # type: ignore[arg-type]
    world.engine.states["user"] = Accounts(all=(Account(username="root", password_hash=text, roles=("FULL_ADMIN",)),))
    assert (await world.admin.call("system.secrets.status"))["plain"] == 1
    await world.admin.call("system.secrets.rewrap")
    assert isinstance(world.stored, Sealed)
    assert (await world.admin.call("system.secrets.status"))["secrets"] == {"k2": 1}


async def test_a_secret_whose_key_is_lost_ends_a_rewrap_before_it_begins(world: World) -> None:
    world.keys.keys = KeyBundle("k9", {"k9": b""})
    told = await world.admin.call("system.secrets.rewrap")
    assert "does not hold its key k1" in told["reason"]
    assert world.keys.ids() == ("k9",)


def test_a_secret_that_was_changed_meanwhile_is_left_as_it_is() -> None:
    noun = Registry((auth,)).nouns["user"]
    old, new, changed = Sealed("k1", b"", b"old"), Sealed("k2", b"", b"new"), Sealed("k1", b"", b"changed")
    state = Accounts(all=(Account(username="root", password_hash=changed, roles=()),))
    rewrap = Rewrap(noun="user", envelopes={"root.password_hash": (old, new), "eva.password_hash": (old, new)})
    assert list(noun.decide(state, rewrap)) == []


def test_many_secrets_make_several_events_none_of_which_is_too_long() -> None:
    noun = Registry((auth,)).nouns["user"]
    old, new = Sealed("k1", bytes(12), bytes(120)), Sealed("k2", bytes(12), bytes(120))
    names = [f"user{number}" for number in range(FIELDS_AN_EVENT + 1)]
    state = Accounts(all=tuple(Account(username=name, password_hash=old, roles=()) for name in names))
    events = noun.decide(state, Rewrap(noun="user", envelopes={user.secret_of(name): (old, new) for name in names}))
    assert [len(event.envelopes) for event in events] == [FIELDS_AN_EVENT, 1]  # type: ignore[attr-defined]
    assert all(len(msgspec.json.encode(event)) < 256 * 1024 for event in events)
    for event in events:
        state = noun.evolve(state, event)
    assert {account.password_hash for account in state.all} == {new}


def test_the_noun_s_own_commands_are_decided_as_before() -> None:
    noun = Registry((auth,)).nouns["user"]
    [event] = noun.decide(Accounts(), SetUpAdministrator(username="root", password_hash="$x"))
    assert event.kind == "user.administrator.set_up"


# What the two controllers say to each other


async def test_each_key_that_one_controller_lacks_it_gets_from_the_other(world: World) -> None:
    world.is_a_pair()
    theirs = KeyBundle("k7", {"k7": b"seven"})
    world.engine.peer = {"system.secrets.ids": ["k7"], "system.secrets.give": theirs, "system.secrets.keep": None}
    await secrets.share(DutyContext(world.api.engine, world.engine))
    assert (world.keys.ids(), world.keys.active) == (("k1", "k7"), "k1")
    method, given = world.engine.asked[-1]
    assert (method, given.keys) == ("system.secrets.keep", world.keys.keys.keys)  # type: ignore[attr-defined]


async def test_nothing_is_sent_while_both_hold_the_same_keys_or_the_other_is_away(world: World) -> None:
    await secrets.share(DutyContext(world.api.engine, world.engine))
    world.is_a_pair()
    await secrets.share(DutyContext(world.api.engine, world.engine))
    world.engine.peer = {"system.secrets.ids": ["k1"]}
    await secrets.share(DutyContext(world.api.engine, world.engine))
    assert {asked[0] for asked in world.engine.asked} == {"system.secrets.ids"}


async def test_the_questions_of_the_other_controller_are_answered(world: World) -> None:
    ask = Questions(world.api)
    await ask("system.secrets.keep", ({"active": "k5", "keys": {"k5": "AAAA"}},))
    assert await ask("system.secrets.ids", ()) == ("k1", "k5")
    assert await ask("system.secrets.give", ()) == world.keys.bundle()
    await ask("system.secrets.drop", (["k1"],))
    assert world.keys.ids() == ("k5",)


async def test_without_a_login_nothing_is_said_of_keys(world: World) -> None:
    assert isinstance(world.engine, MemoryEngine)
    for method in ("system.secrets.status", "system.secrets.rewrap"):
        assert (await Client(world.api).call(method))["error"] == 207
    assert (await Client(world.api, "SYSTEM_GENERAL_READ").call("system.secrets.rewrap"))["error"] == 13
