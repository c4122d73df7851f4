"""`auth` and the methods of `user`: how a client becomes somebody.

The standby logs nobody in while it knows where the active controller is: it answers with its addresses (REDIRECT).
Where it knows none, people must be able to look at what is left, and it does.
A name that is not known and a wrong password get the same answer after the same time. Passwords are never stored,
logged or decided on; only their argon2id hash is.
"""

from __future__ import annotations

import errno
from typing import Any, Literal

import msgspec

from middlewared.kernel.errors import CallFailed, NotActive, Refused
from middlewared.kernel.secret import Sealed, masked
from middlewared.plugin import Call, command, local, query

from . import effects
from .attempts import Attempts
from .user import NOUN, SEALED_SINCE, Account, SetUpAdministrator, secret_of

PASSWORD_LIMIT = 1024

_attempts = Attempts()


class PasswordPlain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log in by name and password."""

    mechanism: Literal["PASSWORD_PLAIN"]
    username: str
    password: str
    login_options: dict[str, Any] = {}

    def __repr__(self) -> str:
        return masked(self, "password", "login_options")


@query("auth.mechanism_choices", public=True)
async def mechanism_choices(call: Call) -> list[str]:
    """The ways to log in that `auth.login_ex` takes."""
    return ["PASSWORD_PLAIN"]


@local("auth.login_ex", public=True, takes="login_data")
async def login_ex(call: Call, login_data: PasswordPlain) -> dict[str, object]:
    """Log in. `response_type` is SUCCESS, AUTH_ERR, or REDIRECT with the `urls` of the active controller."""
    urls = _elsewhere(call)
    if urls:
        return {"response_type": "REDIRECT", "urls": urls}
    if not await _log_in(call, login_data.username, login_data.password):
        return {"response_type": "AUTH_ERR"}
    return {"response_type": "SUCCESS", "user_info": _user_info(call), "authenticator": "LEVEL_1"}


@local("auth.login", public=True)
async def login(call: Call, username: str, password: str, otp_token: str | None = None) -> bool:
    """Log in by name and password. The standby refuses, with the active controller's addresses (EROFS)."""
    urls = _elsewhere(call)
    if urls:
        raise NotActive(call.node, urls)
    return await _log_in(call, username, password)


@local("auth.me")
async def me(call: Call) -> dict[str, object]:
    """Who this connection is, and what it may."""
    return _user_info(call)


@local("auth.logout", public=True)
async def logout(call: Call) -> bool:
    """Be nobody again; root on the unix socket is root again."""
    if call.session.username is not None:
        call.note("logout")
    call.session.log_out()
    return True


@query("user.has_local_administrator_set_up", public=True)
async def has_local_administrator_set_up(call: Call) -> bool:
    """Whether anybody can log in with a password."""
    return bool(call.state(NOUN).all)


@command("user.setup_local_administrator", local_only=True)
async def setup_local_administrator(call: Call, username: str, password: str) -> None:
    """Set up the first account, once; by root on the unix socket only."""
    if call.state(NOUN).all:
        raise CallFailed(errno.EEXIST, "The administrator is set up already")
    if not 1 <= len(password) <= PASSWORD_LIMIT:
        raise Refused(("password", f"must be 1-{PASSWORD_LIMIT} characters long"))
    password_hash = await effects.hash_password(password)
    await call.execute(
        SetUpAdministrator(username=username, password_hash=await _closed(call, username, password_hash))
    )


async def _log_in(call: Call, username: str, password: str) -> bool:
    address = _address_of(call.session.origin)
    wait_s = _attempts.wait_s(address, effects.now())
    if wait_s:
        reason = f"Too many failed logins from {address}; try again in {wait_s:.0f} s"
        raise CallFailed(errno.EBUSY, reason, {"retry_after_s": round(wait_s, 1)})
    _attempts.failed(address, effects.now())  # Before the wait: attempts side by side count too.
    account = call.state(NOUN).of(username)
    right = await effects.fits(password[: PASSWORD_LIMIT + 1], await _opened(call, account))
    if account is None or not right:
        call.note("login_failed", who=username, reason="Wrong name or password")
        return False
    _attempts.succeeded(address)
    call.session.log_in(account.username, frozenset(account.roles))
    call.note("login")
    return True


async def _closed(call: Call, username: str, password_hash: str) -> Sealed | str:
    """The hash in an envelope; as it is while the log's format has none."""
    if call.controller.facts().log_format < SEALED_SINCE:
        return password_hash
    return await call.controller.secrets.seal(NOUN.name, secret_of(username), password_hash)


async def _opened(call: Call, account: Account | None) -> str | None:
    """The hash of an account's password. Raises PortFailed where its key is not held here."""
    if account is None:
        return None
    if isinstance(account.password_hash, str):
        return account.password_hash
    return await call.controller.secrets.open(NOUN.name, secret_of(account.username), account.password_hash)


def _address_of(origin: str) -> str:
    """The address without the port; for the unix socket the uid counts."""
    return origin if origin.startswith("unix:") else origin.rpartition(":")[0]


def _elsewhere(call: Call) -> list[str]:
    """Where to log in instead of here; empty = here."""
    facts = call.controller.facts()
    return list(facts.active_urls) if facts.status == "BACKUP" else []


def _user_info(call: Call) -> dict[str, object]:
    """In the form that clients of this API family read."""
    return {
        "pw_name": call.session.username,
        "account_attributes": ["LOCAL"],
        "privilege": {"webui_access": True, "roles": {"$set": sorted(call.session.roles)}},
    }


METHODS = (
    mechanism_choices,
    login_ex,
    login,
    me,
    logout,
    has_local_administrator_set_up,
    setup_local_administrator,
)
