"""What a plugin imports: the manifest and the decorators. Nothing here does anything by itself.

A plugin is a package with a `plugin = Plugin(...)` and an entry point in the group `middlewared.plugins`; the product's
own plugins come the same way. Its noun files are pure and read top to bottom: state, commands, events, decide, evolve,
table, project. What touches the world outside stands in `effects.py`, level-triggered from the projected state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import msgspec
from sqlalchemy import Table

from middlewared.kernel.audit import NoteKind
from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.event import Casts, Event, Record
from middlewared.kernel.facts import Node
from middlewared.kernel.secret import Sealed
from middlewared.kernel.tail import Page, Tail
from middlewared.ports import Audit, Fence, Host, Jobs, SecretStore, Upkeep

S = TypeVar("S", bound=msgspec.Struct)
Row = dict[str, object]


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody asks for. Ids, salts, hashes and times are in it already: deciding makes nothing up."""

    noun: ClassVar[str]


class Rewrap(Command, frozen=True, kw_only=True):
    """Close secrets of any noun anew. envelopes: place in the noun -> (what it holds, what it shall hold)."""

    noun: str  # type: ignore[misc]  # it is every noun's, so the command names its own
    envelopes: dict[str, tuple[Sealed | str, Sealed]]

    def __repr__(self) -> str:
        return f"Rewrap(noun={self.noun!r}, envelopes={sorted(self.envelopes)})"


@dataclass(frozen=True, kw_only=True)
class Secrets(Generic[S]):
    """What of a noun's state is secret, by names that stay: `held` tells all of it, `replaced` puts others there.

    A str is a secret from before there were envelopes, and is closed by the next rewrap. An envelope is bound to the
    noun and the name under which `held` tells it.
    """

    held: Callable[[S], Mapping[str, Sealed | str]]
    replaced: Callable[[S, Mapping[str, Sealed]], S]


@dataclass(frozen=True, kw_only=True, eq=False)
class Noun(Generic[S]):
    """One thing that the configuration knows, and its whole life.

    name: the namespace (`network.configuration`); its events' kinds begin with it.
    initial: the state of a new system.
    decide: (state, command) -> events; raises Refused or CallFailed. evolve: (state, event) -> state.
    table: where it is projected; project: state -> rows; restore: rows -> state, its inverse. A column with
    info={"secret": True} is never shown.
    command_for: (state before the event, event) -> the command that asks for what the event said, None where there is
    none; by it what lies in quarantine can be asked for again. Without it the noun's events cannot.
    secrets: what of the state is secret; None: nothing is.
    """

    name: str
    initial: S
    events: tuple[type[Event], ...]
    decide: Callable[[S, Any], Sequence[Event]]
    evolve: Callable[[S, Any], S]
    table: Table
    project: Callable[[S], Sequence[Row]]
    restore: Callable[[Sequence[Row]], S]
    upcasts: Casts = field(default_factory=dict)
    downcasts: Casts = field(default_factory=dict)
    command_for: Callable[[S, Any], Command | None] | None = None
    secrets: Secrets[S] | None = None


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that was made: its id, and the record after which it hears everything."""

    id: str
    seq: int
    term: int


class SessionView(Protocol):
    """The client at the other end of a call."""

    id: str
    origin: str
    """`unix:UID` or `ADDRESS:PORT`."""
    local_root: bool
    """It came over the unix socket as uid 0."""
    username: str | None
    roles: frozenset[str]
    options: dict[str, bool]

    def log_in(self, username: str, roles: frozenset[str]) -> None: ...

    def log_out(self) -> None: ...

    def unsubscribe(self, subscription: str) -> bool: ...


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field of one row, as it was where two logs parted, as a tail made it, as it is, and as it would be.

    again: after the tail's events were asked for again, now. A row that is not there has null in every field.
    conflict: it was changed since, to something else than the tail's. Secrets are masked.
    """

    noun: str
    table: str
    key: dict[str, object]
    field: str
    before: object
    quarantined: object
    now: object
    again: object
    conflict: bool


class TailFold(Protocol):
    """A tail's records, taken in order, beside what is now. without_command: how many events no command asks for."""

    without_command: int

    def take(self, record: Record) -> Command | None:
        """The command that asks for what the record's event said; None where there is none.

        Raises CallFailed when it does not follow the one before.
        """
        ...

    def differences(self) -> Sequence[Difference]:
        """What the records that were taken so far make different."""
        ...


class Aside(Protocol):
    """The tails that were cut from this controller's log, as they lie in its quarantine directory."""

    def tails(self) -> Sequence[Tail]:
        """Every tail whose file is there, oldest cut first; told by the log alone, see `described`."""
        ...

    async def described(self, digest: str) -> Tail:
        """The same, with what its records say. Raises CallFailed ENOENT, and EIO for a file that is damaged."""
        ...

    async def page(self, digest: str, offset: int) -> Page:
        """The records from `offset` on (0: all), as many as one answer to the other controller may hold."""
        ...

    async def fold(self, first: Record) -> TailFold:
        """Begin to fold a tail that begins with `first`, from the state where it left this controller's log.

        Raises CallFailed when the record before it is not in this log.
        """
        ...

    async def settle(self, *, decided: frozenset[str], discarded: frozenset[str]) -> None:
        """Digests of the tails about which somebody has decided; the files of those discarded go. States the whole."""
        ...


class Controller(Protocol):
    """This controller, as plugins may ask about it and ask of it."""

    node: Node
    aside: Aside
    upkeep: Upkeep
    audit: Audit
    secrets: SecretStore

    def held_secrets(self) -> Mapping[str, Mapping[str, Sealed | str]]:
        """Every noun that declares secrets -> what it holds; see Secrets."""
        ...

    def facts(self) -> ControllerFacts: ...

    def alerts(self, theirs: Sequence[Alert] | None = None) -> Sequence[Alert]:
        """What an operator must know of this controller at this moment, oldest first; joined with `theirs`.

        theirs: what the other controller tells of itself, None where it does not; marked as read where they were
        dismissed here.
        """
        ...

    def dismiss_alert(self, id_: str, *, dismissed: bool) -> None:
        """Have an alert shown as read, on this controller; forgotten when what it tells is over, or at a restart."""
        ...

    async def force_master(self) -> None:
        """Claim the term whatever the rules would wait for. Raises CallFailed when the voters refuse."""
        ...

    async def open_pairing(self) -> str:
        """A one-time code with which the other controller may join, valid for ten minutes."""
        ...

    async def join(self, code: str, host: str, discard_mine: bool) -> None:
        """Join the controller at `host` that printed `code`. Raises Refused or CallFailed."""
        ...

    async def ask_peer(self, method: str, *params: object, timeout_s: float = 2.0) -> object:
        """Ask the other controller: one of the methods that its plugins declare with `peer`.

        The answer is plain data, to be converted to the type that is expected. timeout_s: at most 60. Raises
        CallFailed: ENOTCONN when the other controller is away, EOPNOTSUPP when it runs a version that does not know
        the question, ETIMEDOUT when it does not answer in time, else what it raised.
        """
        ...


class PeerBuild(msgspec.Struct, frozen=True, kw_only=True):
    """What the other controller runs. age: seen from here; "other": of the same age, and it knows other events.

    version: "" for the first build, which did not say it. log_format_max: the newest format that it can read.
    """

    version: str
    age: Literal["older", "same", "newer", "other"]
    log_format_max: int


class ControllerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that status methods tell, read at one instant.

    status: the string that clients know. why: the sentence of the rule that decided the role. behind: why the
    configuration is read-only on the owner, None if it is not. Seqs: of the log; peer_*: as last acknowledged.
    peer_refused: why the peer closed the line, None while it does not. peer_apart: why the versions of the two cannot
    read each other's log. apply_blocked: why nothing after applied_seq is applied here; peer_apply_blocked: there.
    log_format: in which the log goes on. peer: what the other controller runs, while the line is open. lag_events: not
    applied by the peer (on the standby: not applied here, of those committed). lag_ms: how long the oldest of them has
    waited (on the standby: how long it has not known itself to be level). digest_equal_at_seq: where the two states
    were last found equal. state_differs: the last difference that was found in this controller's state, until both are
    found equal at a later seq. no_room: why this controller's disk takes no more configuration, None while it does.
    disk_ok: the voters that this controller reaches, out of disks_total.
    """

    version: str
    boot_id: str
    uptime_s: float
    wall_ns: int
    status: Literal["SINGLE", "MASTER", "BACKUP", "ELECTING", "IMPORTING", "ERROR"]
    term: int
    since_s: float
    why: str
    behind: str | None
    paired: bool
    in_sync: tuple[Node, ...]
    last_seq: int
    commit_seq: int
    applied_seq: int
    peer_connected: bool
    peer_heard: bool
    peer_refused: str | None
    peer_apart: str | None
    log_format: int
    peer: PeerBuild | None
    peer_durable_seq: int
    peer_applied_seq: int
    peer_apply_blocked: str | None
    lag_events: int
    lag_ms: int
    digest_equal_at_seq: int
    state_differs: str | None
    quarantined: int
    apply_blocked: str | None
    no_room: str | None
    disks_ok: int
    disks_total: int
    active_urls: tuple[str, ...]
    vip_states: Mapping[str, str]
    effects: Mapping[str, str | None]
    """Effect -> why the world is not as the configuration says; None where it is."""


AlertLevel = Literal["INFO", "WARNING", "CRITICAL"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator must know, as it is told.

    id: stable while it holds: class, controller, and key where the class has several. text: what the class is about.
    formatted: what it is this time. datetime: since when it holds, {"$date": ms since 1970, UTC}.
    """

    id: str
    klass: str
    level: AlertLevel
    node: Node
    text: str
    formatted: str
    datetime: Mapping[str, int]
    dismissed: bool


@dataclass(frozen=True, kw_only=True)
class AlertSource:
    """Something that an operator must know while it holds; judged on each controller for itself.

    klass: its name. title: one sentence without particulars.
    holds: facts -> the sentence of this time, None where it does not hold; or key -> sentence, where it may hold of
    several things at once. Pure. after_s: how long it must have held before it is told.
    """

    klass: str
    level: AlertLevel
    title: str
    holds: Callable[[ControllerFacts], str | Mapping[str, str] | None]
    after_s: float = 0.0


class Call(Protocol):
    """One call under way: who asks, what the configuration is, and how to change it."""

    node: Node
    session: SessionView
    controller: Controller
    host: Host
    jobs: Jobs

    def state(self, noun: Noun[S]) -> S:
        """The committed state of a noun of this plugin."""
        ...

    async def query(self, method: str, *args: object) -> object:
        """Call another plugin's query; it must be named in this plugin's `needs`."""
        ...

    def note(self, kind: NoteKind, *, who: str = "", reason: str = "") -> None:
        """Keep in this controller's audit that it happened. who: where it is not this client's name."""
        ...

    async def execute(self, command: Command) -> None:
        """Decide, make durable, commit. Returns when the command is committed and applied."""
        ...

    async def execute_each(self, commands: Sequence[tuple[str, Command]]) -> Sequence[int | MiddlewareError]:
        """Execute (request id, command), decided in their order, without waiting for one before the next.

        Returns for each the number of events that it made, or why it was refused. Raises what says that this
        controller may not write, and OutcomeUnknown.
        """
        ...

    async def subscribe(
        self, name: str, *, addressed: bool = False, since: int | None = None, term: int | None = None
    ) -> Subscribed:
        """Let the client hear of a collection, or of all with `*`: from now on, or of all after the record `since`.

        addressed: notifications carry the subscription's id. term: of that record, as the client knows it.
        Raises Refused for a record that is not there, is another one, or means nothing for this collection.
        """
        ...

    async def wait_durable(self, seq: int, level: str, timeout_s: float) -> tuple[int, str]:
        """(term, level) of record `seq`, once it is durable at `level` (pair, single) or better. Raises CallFailed."""
        ...

    async def state_digest(self) -> tuple[int, str]:
        """(applied seq, digest of every projected row)."""
        ...

    def methods(self) -> Sequence[Method]:
        """Every method that is loaded."""
        ...

    def alert_sources(self) -> Sequence[AlertSource]:
        """Every source of alerts that is loaded."""
        ...

    def event_names(self) -> Sequence[str]:
        """Every collection that can be subscribed to."""
        ...

    def announcements(self) -> Sequence[Announcement]:
        """Those of them that are the answers of queries."""
        ...


class JobCall(Call, Protocol):
    """A call that is a job."""

    def progress(self, percent: float, description: str) -> None:
        """Tell how far it is. percent: 0-100. May be called as often as is convenient."""
        ...


Handler = Callable[..., Coroutine[Any, Any, Any]]
Kind = Literal["write", "read", "local"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of the API.

    kind: "write" changes the configuration (active only); "read" asks; "local" acts on this controller alone and works
    on a standby too. roles: any of them is enough; empty = any login. public: needs no login.
    takes: the name under which a problem with the single object parameter is reported; None where the parameters are
    reported under their own names. description: the handler's docstring. job: it runs until it is done, with progress,
    whatever becomes of the connection. abortable: a job that may be ended in the middle.
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
) -> Callable[[Handler], Method]:
    """Declare `async def handler(call: JobCall, ...)` as a method that may take long.

    Jobs of one method run one after the other. An abort cancels the handler where it waits.
    """
    declare = _declare(kind, name, roles, takes, False, local_only)
    return lambda handler: replace(declare(handler), job=True, abortable=abortable)


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


class PeerCall(Protocol):
    """A question of the other controller, as the one that answers it sees it."""

    node: Node
    controller: Controller
    host: Host
    jobs: Jobs

    def state(self, noun: Noun[S]) -> S:
        """The committed state of a noun."""
        ...

    def start_job(self, method: str, arguments: Sequence[object], username: str) -> int:
        """Begin a job of this controller on behalf of the other's `username`. Returns its id. Raises CallFailed."""
        ...


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


class DutyCall(Protocol):
    """What a duty sees, and how it changes the configuration."""

    node: Node
    controller: Controller

    def state(self, noun: Noun[S]) -> S: ...

    async def execute(self, command: Command, *, request_id: str) -> None:
        """Decide, make durable, commit, in this product's own name. request_id: the same for the same command."""
        ...


@dataclass(frozen=True, kw_only=True)
class Duty:
    """What the owner does by itself, by commands: level-triggered, as effects are, and undone by nobody's crash.

    Run every `every_s` seconds, on the controller that may write and only there; `run` finds out what is left to do.
    """

    name: str
    run: Callable[[DutyCall], Awaitable[None]]
    every_s: float = 1.0


class View(Protocol):
    """What an effect sees: the committed state, and this controller."""

    node: Node
    host: Host
    fence: Fence
    aside: Aside

    def state(self, noun: Noun[S]) -> S: ...


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Make the world outside equal to the state of the watched nouns, whatever it was before.

    Run on each controller for itself: at start, after every committed change of a watched noun, and again each
    `retry_s` while it fails. `reconcile` raises PortFailed; the failure is status, shown until it is mended.
    """

    name: str
    watches: tuple[str, ...]
    reconcile: Callable[[View], Awaitable[None]]
    retry_s: float = 5.0


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
    pause_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """The manifest.

    needs: methods of other plugins that this one queries. peer: what the other controller may ask. events: collections
    that it fills itself; announces: those that are the answer of a query.
    """

    name: str
    nouns: tuple[Noun[Any], ...] = ()
    methods: tuple[Method, ...] = ()
    peer: tuple[PeerMethod, ...] = ()
    effects: tuple[Effect, ...] = ()
    duties: tuple[Duty, ...] = ()
    needs: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    announces: tuple[Announcement, ...] = ()
    alerts: tuple[AlertSource, ...] = ()
