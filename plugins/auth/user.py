"""`user`: who may log in. For now one administrator, who is set up once and may do everything.

The password itself never comes here: the method hashes it (argon2id) before the command is made, and only the hash is
decided on, stored and sent to the other controller, in an envelope that only this pair's keys open.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec
from sqlalchemy import JSON, Column, MetaData, String, Table

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.event import Event
from middlewared.kernel.secret import Sealed, masked
from middlewared.plugin import Command, Noun, Row, Secrets

SEALED_SINCE = 2
"""The log format from which on a hash is in an envelope."""
_USERNAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


# State


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may log in.

    password_hash: argon2id, in its own text form, salt and costs included; in an envelope, or as it is where the log
    was of a format that had none.
    """

    username: str
    password_hash: Sealed | str
    roles: tuple[str, ...]

    def __repr__(self) -> str:
        return masked(self, "password_hash")


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody who may log in."""

    all: tuple[Account, ...] = ()

    def of(self, username: str) -> Account | None:
        return next((account for account in self.all if account.username == username), None)


# Commands


class SetUpAdministrator(Command, frozen=True, kw_only=True):
    """Make the first account. password_hash: in an envelope bound to `secret_of(username)`, from log format 2 on."""

    noun: ClassVar[str] = "user"
    username: str
    password_hash: Sealed | str

    def __repr__(self) -> str:
        return masked(self, "password_hash")


# Events


class AdministratorSetUp(Event, frozen=True, kw_only=True):
    """In a log of format 1, which has no envelopes."""

    kind: ClassVar[str] = "user.administrator.set_up"
    username: str
    password_hash: str

    def __repr__(self) -> str:
        return masked(self, "password_hash")


class AdministratorSetUpSealed(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "user.administrator.set_up_sealed"
    since_format: ClassVar[tuple[int, ...]] = (SEALED_SINCE,)
    username: str
    password_hash: Sealed


# Rules


def decide(state: Accounts, command: SetUpAdministrator) -> Sequence[Event]:
    """Raises CallFailed EEXIST when there is an account, Refused for a name that no account may have."""
    if state.all:
        raise CallFailed(errno.EEXIST, "The administrator is set up already")
    if not _USERNAME.fullmatch(command.username):
        what = "must be 1-32 of a-z, 0-9, _, . and -, and begin with a letter or _"
        raise Refused(("username", what))
    password_hash = command.password_hash
    if isinstance(password_hash, Sealed):
        return [AdministratorSetUpSealed(username=command.username, password_hash=password_hash)]
    return [AdministratorSetUp(username=command.username, password_hash=password_hash)]


def evolve(state: Accounts, event: AdministratorSetUp | AdministratorSetUpSealed) -> Accounts:
    account = Account(username=event.username, password_hash=event.password_hash, roles=("FULL_ADMIN",))
    return Accounts(all=(*state.all, account))


# Secrets


def secret_of(username: str) -> str:
    """The name of an account's secret: what its envelope is bound to."""
    return f"{username}.password_hash"


def held(state: Accounts) -> dict[str, Sealed | str]:
    return {secret_of(account.username): account.password_hash for account in state.all}


def replaced(state: Accounts, envelopes: Mapping[str, Sealed]) -> Accounts:
    return Accounts(
        all=tuple(
            msgspec.structs.replace(a, password_hash=envelopes.get(secret_of(a.username), a.password_hash))
            for a in state.all
        )
    )


# Projection

table = Table(
    "user_account",
    MetaData(),
    Column("username", String, primary_key=True),
    Column("password_hash", String, nullable=False, info={"secret": True}),
    Column("roles", JSON, nullable=False),
)


def project(state: Accounts) -> list[Row]:
    """An envelope is projected as its JSON, which no hash looks like: a hash begins with `$`."""
    return [
        {"username": a.username, "password_hash": _text(a.password_hash), "roles": list(a.roles)}
        for a in sorted(state.all, key=lambda a: a.username)
    ]


def restore(rows: Sequence[Row]) -> Accounts:
    read = ({**row, "password_hash": _read(str(row["password_hash"]))} for row in rows)
    return Accounts(all=tuple(msgspec.convert(row, Account) for row in read))


def _text(password_hash: Sealed | str) -> str:
    return password_hash if isinstance(password_hash, str) else msgspec.json.encode(password_hash).decode()


def _read(text: str) -> Sealed | str:
    return msgspec.json.decode(text, type=Sealed) if text.startswith("{") else text


NOUN = Noun(
    name="user",
    initial=Accounts(),
    events=(AdministratorSetUp, AdministratorSetUpSealed),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
    secrets=Secrets(held=held, replaced=replaced),
)
