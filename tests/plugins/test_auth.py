from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from middlewared_plugins.auth import login, user
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.auth.attempts import ADDRESSES, FAILURES, WINDOW_S, Attempts
from middlewared_plugins.auth.effects import now
from middlewared_plugins.auth.user import Account, Accounts, AdministratorSetUp, SetUpAdministrator

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.standin import MemoryEngine, dispatcher
from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.secret import Sealed
from middlewared.plugin import Rewrap
from middlewared.protocol.session import Session

HASH = "$argon2id$..."
SEALED = Sealed("k1", b"nonce", b"ct")
HASHES = st.one_of(st.text().map("$".__add__), st.builds(Sealed, st.text(), st.binary(), st.binary()))


# The noun


def test_the_first_administrator_may_do_everything() -> None:
    (event,) = user.decide(Accounts(), SetUpAdministrator(username="root", password_hash=HASH))
    assert event == AdministratorSetUp(username="root", password_hash=HASH)
    account = user.evolve(Accounts(), event).of("root")
    assert account == Account(username="root", password_hash=HASH, roles=("FULL_ADMIN",))


def test_there_is_no_second_first_administrator() -> None:
    state = user.evolve(Accounts(), AdministratorSetUp(username="root", password_hash=HASH))
    with pytest.raises(CallFailed, match="set up already"):
        user.decide(state, SetUpAdministrator(username="eva", password_hash=HASH))


@pytest.mark.parametrize("username", ["", "a b", "Root", "1x", "x" * 33, "ä", "root\n"])
def test_a_name_that_no_account_may_have_is_refused(username: str) -> None:
    with pytest.raises(Refused, match="username: must be 1-32"):
        user.decide(Accounts(), SetUpAdministrator(username=username, password_hash=HASH))


@given(st.lists(st.builds(Account, username=st.text(), password_hash=HASHES, roles=st.lists(st.text()).map(tuple))))
def test_what_is_projected_can_be_restored(accounts: list[Account]) -> None:
    state = Accounts(all=tuple(sorted(accounts, key=lambda a: a.username)))
    assert user.restore(user.project(state)) == state


# How often an address may try


def test_an_address_that_failed_too_often_waits_until_the_oldest_failure_is_old() -> None:
    attempts = Attempts()
    for second in range(FAILURES):
        assert attempts.wait_s("a", second) == 0
        attempts.failed("a", second)
    assert attempts.wait_s("a", 20.0) == WINDOW_S - 20
    assert attempts.wait_s("b", 20.0) == 0
    assert attempts.wait_s("a", WINDOW_S) == 0


def test_a_right_password_forgets_the_failures() -> None:
    attempts = Attempts()
    for _ in range(FAILURES):
        attempts.failed("a", 0.0)
    attempts.succeeded("a")
    assert attempts.wait_s("a", 1.0) == 0


def test_the_table_of_addresses_is_bounded() -> None:
    attempts = Attempts()
    for _ in range(FAILURES):
        attempts.failed("first", 0.0)
    for i in range(ADDRESSES - 1):
        attempts.failed(f"a{i}", 1.0)
    assert attempts.wait_s("first", 2.0) > 0
    attempts.failed("one more", 2.0)
    assert attempts.wait_s("first", 2.0) == 0


# The methods


class Client:
    """A session, and the short way to call."""

    def __init__(self, api: Dispatcher, *, local_root: bool = False) -> None:
        self._api = api
        origin = "unix:0" if local_root else "10.0.0.9:5"
        self.session = Session(id="s", origin=origin, local_root=local_root, new_id=str)

    async def call(self, method: str, *params: object) -> object:
        """The result, or `data` of the error."""
        text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
        answer = await self._api.answer(self.session, text, lambda: None)
        assert answer is not None
        reply = json.loads(answer)
        return reply["result"] if "result" in reply else reply["error"]["data"]

    async def login_ex(self, username: str, password: str) -> object:
        return await self.call(
            "auth.login_ex", {"mechanism": "PASSWORD_PLAIN", "username": username, "password": password}
        )


@pytest.fixture
def world() -> Iterator[tuple[Dispatcher, MemoryEngine]]:
    made, engine, _ = dispatcher(auth)
    login._attempts = Attempts()
    yield made, engine
    login._attempts = Attempts()


async def set_up(api: Dispatcher) -> None:
    await Client(api, local_root=True).call("user.setup_local_administrator", "root", "s3cret")


async def test_the_first_password_is_set_on_the_unix_socket_once(world: tuple[Dispatcher, MemoryEngine]) -> None:
    api, _ = world
    far, root = Client(api), Client(api, local_root=True)
    assert await far.call("user.has_local_administrator_set_up") is False
    assert (await far.call("user.setup_local_administrator", "root", "x"))["error"] == 207  # type: ignore[index]
    assert await root.call("user.setup_local_administrator", "root", "s3cret") is None
    assert await far.call("user.has_local_administrator_set_up") is True
    again = await root.call("user.setup_local_administrator", "eva", "x")
    assert again["errname"] == "EEXIST"  # type: ignore[index]


async def test_an_administrator_from_afar_may_not_set_up_another(world: tuple[Dispatcher, MemoryEngine]) -> None:
    far = Client(world[0])
    far.session.log_in("eva", frozenset({"FULL_ADMIN"}))
    assert (await far.call("user.setup_local_administrator", "root", "x"))["errname"] == "EACCES"  # type: ignore[index]


async def test_the_password_is_stored_nowhere(world: tuple[Dispatcher, MemoryEngine]) -> None:
    api, engine = world
    await set_up(api)
    assert "s3cret" not in repr((engine.executed, engine.states))
    [account] = engine.states["user"].all
    assert isinstance(account.password_hash, Sealed)
    assert (await engine.secrets.open("user", "root.password_hash", account.password_hash)).startswith("$argon2id$")


async def test_a_log_that_has_no_envelopes_gets_the_hash_as_it_was_always_written(
    world: tuple[Dispatcher, MemoryEngine],
) -> None:
    api, engine = world
    engine.facts_now = msgspec.structs.replace(engine.facts_now, log_format=1)
    await set_up(api)
    assert engine.states["user"].all[0].password_hash.startswith("$argon2id$")
    assert await Client(api).call("auth.login", "root", "s3cret") is True


async def test_a_login_whose_key_is_not_held_here_says_so_and_names_the_key(
    world: tuple[Dispatcher, MemoryEngine],
) -> None:
    api, engine = world
    await set_up(api)
    await engine.secrets.activate(await engine.secrets.add_key())
    await engine.secrets.drop("k1")
    told = await Client(api).call("auth.login", "root", "s3cret")
    assert told["reason"] == "open or close a secret: this controller does not hold its key k1"  # type: ignore[index]


def test_no_password_and_no_hash_shows_in_a_repr() -> None:
    structs = (
        login.PasswordPlain(mechanism="PASSWORD_PLAIN", username="root", password=HASH, login_options={"x": HASH}),
        SetUpAdministrator(username="root", password_hash=HASH),
        AdministratorSetUp(username="root", password_hash=HASH),
        Account(username="root", password_hash=HASH, roles=()),
        Rewrap(noun="user", envelopes={"root.password_hash": (HASH, SEALED)}),
    )
    assert HASH not in repr(structs)
    assert repr(structs[1]) == "SetUpAdministrator(username='root', password_hash=***)"


@pytest.mark.parametrize("password", ["", "x" * 1025])
async def test_a_password_of_no_length_or_of_any_is_refused(
    world: tuple[Dispatcher, MemoryEngine], password: str
) -> None:
    told = await Client(world[0], local_root=True).call("user.setup_local_administrator", "root", password)
    assert told["extra"] == [["password", "must be 1-1024 characters long", 22]]  # type: ignore[index]


async def test_the_right_password_makes_the_session_the_user(world: tuple[Dispatcher, MemoryEngine]) -> None:
    api, _ = world
    await set_up(api)
    far = Client(api)
    answer = await far.login_ex("root", "s3cret")
    assert isinstance(answer, dict)
    assert (answer["response_type"], answer["authenticator"]) == ("SUCCESS", "LEVEL_1")
    assert answer["user_info"]["privilege"] == {"webui_access": True, "roles": {"$set": ["FULL_ADMIN"]}}
    assert await far.call("auth.me") == answer["user_info"]
    assert await far.call("auth.logout") is True
    assert (await far.call("auth.me"))["error"] == 207  # type: ignore[index]


@pytest.mark.parametrize(("username", "password"), [("root", "wrong"), ("nobody", "s3cret"), ("root", "")])
async def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(
    world: tuple[Dispatcher, MemoryEngine], username: str, password: str
) -> None:
    await set_up(world[0])
    far = Client(world[0])
    assert await far.login_ex(username, password) == {"response_type": "AUTH_ERR"}
    assert await far.call("auth.login", username, password) is False
    assert far.session.username is None


async def test_the_old_way_to_log_in_takes_a_third_argument_that_may_be_null(
    world: tuple[Dispatcher, MemoryEngine],
) -> None:
    await set_up(world[0])
    assert await Client(world[0]).call("auth.login", "root", "s3cret", None) is True


async def test_guessing_is_stopped_for_that_address_and_says_for_how_long(
    world: tuple[Dispatcher, MemoryEngine],
) -> None:
    await set_up(world[0])
    far = Client(world[0])
    for _ in range(FAILURES):
        login._attempts.failed("10.0.0.9", now())
    told = await far.login_ex("root", "s3cret")
    assert isinstance(told, dict)
    assert told["errname"] == "EBUSY"
    assert 0 < told["extra"]["retry_after_s"] <= WINDOW_S
    assert far.session.username is None


async def test_the_standby_sends_clients_to_the_active_controller(world: tuple[Dispatcher, MemoryEngine]) -> None:
    api, engine = world
    await set_up(api)
    engine.facts_now = msgspec.structs.replace(engine.facts_now, status="BACKUP", active_urls=("http://a",))
    assert await Client(api).login_ex("root", "s3cret") == {"response_type": "REDIRECT", "urls": ["http://a"]}
    refused = await Client(api).call("auth.login", "root", "s3cret")
    assert isinstance(refused, dict)
    assert (refused["errname"], refused["extra"]) == ("EROFS", {"active_urls": ["http://a"], "node": "A"})


async def test_a_standby_that_knows_no_active_controller_lets_people_look(
    world: tuple[Dispatcher, MemoryEngine],
) -> None:
    api, engine = world
    await set_up(api)
    engine.facts_now = msgspec.structs.replace(engine.facts_now, status="BACKUP")
    assert (await Client(api).login_ex("root", "s3cret"))["response_type"] == "SUCCESS"  # type: ignore[index]


async def test_mechanisms_are_told_without_a_login_and_others_are_refused(
    world: tuple[Dispatcher, MemoryEngine],
) -> None:
    far = Client(world[0])
    assert await far.call("auth.mechanism_choices") == ["PASSWORD_PLAIN"]
    told = await far.call("auth.login_ex", {"mechanism": "SCRAM", "username": "a", "password": "b"})
    assert told["extra"] == [["login_data.mechanism", "must be one of PASSWORD_PLAIN", 22]]  # type: ignore[index]
