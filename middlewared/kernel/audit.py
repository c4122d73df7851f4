"""What is kept about calls that left no event in the log, and what is looked for among both."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.facts import Node

NoteKind: TypeAlias = Literal["login", "login_failed", "logout", "refused", "read", "job", "lost"]
"""refused: by login, role, or because this controller may not write. read: on a standby. lost: notes that found no
room; `times` is how many."""

Kind: TypeAlias = NoteKind | Literal["write"]
"""write: an event of the log."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did or tried on one controller. Never an argument of a call: it may be a secret.

    at_ns: wall clock. origin: from where, `unix:UID` or `ADDRESS:PORT`. errno: 0 where it was not refused. times: how
    often the same happened within a second.
    """

    at_ns: int
    kind: NoteKind
    who: str = ""
    origin: str = ""
    method: str = ""
    request_id: str = ""
    errno: int = 0
    reason: str = ""
    times: int = 1


class Kept(msgspec.Struct, frozen=True):
    """A note in its place: ids rise."""

    id: int
    note: Note


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; None: whatever it is. since_ns, until_ns: wall clock, both included."""

    since_ns: int | None = None
    until_ns: int | None = None
    node: Node | None = None
    user: str | None = None
    method: str | None = None
    request_id: str | None = None
    kinds: tuple[Kind, ...] | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the log, with the fields of its noun that it changed: as they were, and as they became.

    before, after: None where they are not known; `why` says so.
    """

    seq: int
    at_ns: int
    node: Node
    who: str
    origin: str
    method: str
    request_id: str
    event: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    why: str = ""
