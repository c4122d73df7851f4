"""What handlers, duties and effects are given: who asks, what is so, and the ways to change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from middlewared.kernel.audit import NoteKind
from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.event import Record
from middlewared.kernel.facts import Node
from middlewared.kernel.outlook import Availability, Configured, Explanation, Forecast, Shown, Side
from middlewared.kernel.secret import Sealed
from middlewared.kernel.tail import Page, Tail
from middlewared.kernel.transition import Transition
from middlewared.plugin.facts import Alert, AlertSource, ControllerFacts, Difference
from middlewared.plugin.methods import Announcement, Method
from middlewared.plugin.noun import Command, Noun, S
from middlewared.ports import Audit, Disks, Fence, Host, Jobs, OwnedPools, SecretStore, Upkeep


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


class Succession(Protocol):
    """How this controller becomes active, and stops being so."""

    def history(self) -> Sequence[Transition]:
        """Its last changes of role, oldest first; the last may be under way."""
        ...

    async def hand_over(self, why: str, told: Callable[[Transition], None]) -> Transition:
        """Give the pools and the term to the other controller; returns when that one serves.

        told: how far it is, as often as that changes. Raises CallFailed with the reason where it was not done.
        """
        ...


class Outlook(Protocol):
    """Whether failover is available, and what it would do."""

    def side(self) -> Side:
        """What this controller shows the other one."""
        ...

    def peer_side(self) -> Side | None:
        """What the other one showed last; None: it is not connected, or shows nothing."""
        ...

    def availability(self, configured: Configured) -> Availability:
        """As this controller sees it, with what the other one told last; answered from memory."""
        ...

    def explain(self) -> Explanation:
        """The rule that holds now, and what it rests on. Raises CallFailed EBUSY while fenced has not been heard."""
        ...

    def shown(self) -> Shown:
        """What fenced decided upon, for the other controller. Raises CallFailed EBUSY."""
        ...

    async def dry_run(self, fault: str) -> Forecast:
        """What would follow a fault. Raises Refused for one that is not known, CallFailed EBUSY."""
        ...


class Controller(Protocol):
    """This controller, as plugins may ask about it and ask of it."""

    node: Node
    aside: Aside
    succession: Succession
    outlook: Outlook
    upkeep: Upkeep
    audit: Audit
    secrets: SecretStore
    disks: Disks
    pools: OwnedPools | None
    """None: the boot file names no ZFS."""

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


class Call(Protocol):
    """One call under way: who asks, what the configuration is, and how to change it."""

    node: Node
    session: SessionView
    controller: Controller
    host: Host
    jobs: Jobs
    again: bool
    """This request was carried out before: its commands answer what they came to then. What a handler does outside of
    the configuration must not be done again."""

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

    def download(self, method: str, arguments: Sequence[object], filename: str) -> tuple[int, str]:
        """Begin a job that gives a file, as this client. Returns its number and where the file can be fetched, once.

        Raises Refused, CallFailed.
        """
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


class DutyCall(Protocol):
    """What a duty sees, and how it changes the configuration."""

    node: Node
    controller: Controller

    def state(self, noun: Noun[S]) -> S: ...

    async def execute(self, command: Command, *, request_id: str) -> None:
        """Decide, make durable, commit, in this product's own name. request_id: the same for the same command."""
        ...


class View(Protocol):
    """What an effect sees: the committed state, and this controller."""

    node: Node
    host: Host
    fence: Fence
    aside: Aside

    def state(self, noun: Noun[S]) -> S: ...
