"""`user`: who may log in. For now one administrator, who is set up once and may do everything.

The password itself never comes here: the method hashes it (argon2id) before the command is made, and only the hash is
decided on, stored and sent to the other controller.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from sqlalchemy import JSON, Column, MetaData, String, Table

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.event import Event
from middlewared.plugin import Command, Noun, Row

_USERNAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


# State


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may log in. password_hash: argon2id, in its own text form, salt and costs included."""

    username: str
    password_hash: str
    roles: tuple[str, ...]


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody who may log in."""

    all: tuple[Account, ...] = ()

    def of(self, username: str) -> Account | None:
        return next((account for account in self.all if account.username == username), None)


# Commands


class SetUpAdministrator(Command, frozen=True, kw_only=True):
    """Make the first account."""

    noun: ClassVar[str] = "user"
    username: str
    password_hash: str


# Events


class AdministratorSetUp(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "user.administrator.set_up"
    username: str
    password_hash: str


# Rules


def decide(state: Accounts, command: SetUpAdministrator) -> Sequence[Event]:
    """Raises CallFailed EEXIST when there is an account, Refused for a name that no account may have."""
    if state.all:
        raise CallFailed(errno.EEXIST, "The administrator is set up already")
    if not _USERNAME.fullmatch(command.username):
        what = "must be 1-32 of a-z, 0-9, _, . and -, and begin with a letter or _"
        raise Refused(("username", what))
    return [AdministratorSetUp(username=command.username, password_hash=command.password_hash)]


def evolve(state: Accounts, event: AdministratorSetUp) -> Accounts:
    account = Account(username=event.username, password_hash=event.password_hash, roles=("FULL_ADMIN",))
    return Accounts(all=(*state.all, account))


# Projection

table = Table(
    "user_account",
    MetaData(),
    Column("username", String, primary_key=True),
    Column("password_hash", String, nullable=False, info={"secret": True}),
    Column("roles", JSON, nullable=False),
)


def project(state: Accounts) -> list[Row]:
    return [
        {"username": a.username, "password_hash": a.password_hash, "roles": list(a.roles)}
        for a in sorted(state.all, key=lambda a: a.username)
    ]


def restore(rows: Sequence[Row]) -> Accounts:
    return Accounts(all=tuple(msgspec.convert(row, Account) for row in rows))


NOUN = Noun(
    name="user",
    initial=Accounts(),
    events=(AdministratorSetUp,),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
)
