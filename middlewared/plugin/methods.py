"""How a plugin declares its methods, its questions to the other controller, and what it announces."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Handler = Callable[..., Coroutine[Any, Any, Any]]

Kind = Literal["write", "read", "local"]

Turn = Callable[..., str | None]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of the API.

    kind: "write" changes the configuration (active only); "read" asks; "local" acts on this controller alone and works
    on a standby too. roles: any of them is enough; empty = any login. public: needs no login.
    takes: the name under which a problem with the single object parameter is reported; None where the parameters are
    reported under their own names. description: the handler's docstring. job: it runs until it is done, with progress,
    whatever becomes of the connection. abortable: a job that may be ended in the middle. turn: see `job`.
    """

    name: str
    kind: Kind
    handler: Handler
    roles: tuple[str, ...] = ()
    public: bool = False
    local_only: bool = False
    """Only over the unix socket, as uid 0."""
    takes: str | None = None
    description: str = ""
    job: bool = False
    abortable: bool = False
    turn: Turn | None = None
    gives_file: bool = False
    """A job whose result has the `path` of a file that its client may fetch."""


def command(
    name: str,
    *,
    roles: Sequence[str] = (),
    takes: str | None = None,
    public: bool = False,
    local_only: bool = False,
) -> Callable[[Handler], Method]:
    """Declare `async def handler(call, ...)` as a method that changes the configuration, through call.execute."""
    return _declare("write", name, roles, takes, public, local_only)


def query(
    name: str,
    *,
    roles: Sequence[str] = (),
    public: bool = False,
    local_only: bool = False,
) -> Callable[[Handler], Method]:
    """Declare `async def handler(call, ...)` as a method that reads, on either controller."""
    return _declare("read", name, roles, None, public, local_only)


def local(
    name: str,
    *,
    roles: Sequence[str] = (),
    takes: str | None = None,
    public: bool = False,
    local_only: bool = False,
) -> Callable[[Handler], Method]:
    """Declare `async def handler(call, ...)` as a method that acts on this controller or this session only."""
    return _declare("local", name, roles, takes, public, local_only)


def job(
    name: str,
    *,
    kind: Kind = "local",
    roles: Sequence[str] = (),
    takes: str | None = None,
    local_only: bool = False,
    abortable: bool = True,
    turn: Turn | None = None,
    gives_file: bool = False,
) -> Callable[[Handler], Method]:
    """Declare `async def handler(call: JobCall, ...)` as a method that may take long.

    Jobs of one method run one after the other; turn: asked with the arguments of the call, says which jobs do, whatever
    their methods: those of one word. None: it waits for none. An abort cancels the handler where it waits.
    """
    declare = _declare(kind, name, roles, takes, False, local_only)
    return lambda handler: replace(declare(handler), job=True, abortable=abortable, turn=turn, gives_file=gives_file)


def _declare(
    kind: Kind, name: str, roles: Sequence[str], takes: str | None, public: bool, local_only: bool
) -> Callable[[Handler], Method]:
    def declare(handler: Handler) -> Method:
        return Method(
            name=name,
            kind=kind,
            handler=handler,
            roles=tuple(roles),
            takes=takes,
            public=public,
            local_only=local_only,
            description=(handler.__doc__ or "").strip(),
        )

    return declare


@dataclass(frozen=True, kw_only=True)
class PeerMethod:
    """A question that the other controller may ask; no client can."""

    name: str
    handler: Handler


def peer(name: str) -> Callable[[Handler], PeerMethod]:
    """Declare `async def handler(call: PeerCall, ...)`, typed as every method's handler, as a question of the peer's.

    For facts of this controller alone; what both know is in the state. The answer is at most 1 MiB: more is asked for
    in pages. Adding a parameter needs a default, for the other controller may run the version before this one.
    """
    return lambda handler: PeerMethod(name=name, handler=handler)


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """Whenever the answer of `query` changes, its subscribers are told, within a second.

    field: they are told {field: answer}. Empty: the answer is a list of Structs, each with an `id`, and they are told
    what was added, changed and removed. ignores: fields of the answer whose change alone is not told.
    pause_s: at least so long between two of them.
    """

    collection: str
    query: str
    field: str = ""
    ignores: tuple[str, ...] = ()
    pause_s: float = 0.05
