"""An engine in memory, for the tests of plugins and of the API: real registry, dispatch and bus, a dictionary as store.

answers, engine, bus = dispatcher(plugin)
await answers.answer(session, text, lambda: None)
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from middlewared.engine.alerts import Alerts
from middlewared.engine.bus import Bus
from middlewared.engine.context import Committed
from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.jobs import Jobs
from middlewared.engine.registry import Registry
from middlewared.engine.threeway import ThreeWay
from middlewared.kernel.audit import Event, Filter, Kept, Note, NoteKind
from middlewared.kernel.errors import CallFailed, MiddlewareError, PortFailed
from middlewared.kernel.event import LOG_FORMAT, Headline, Position, Record
from middlewared.kernel.facts import HostLink, Node
from middlewared.kernel.outcomes import Key, Outcome
from middlewared.kernel.pools import Disk
from middlewared.kernel.secret import KeyBundle, Sealed, bound_to
from middlewared.kernel.tail import Page, Tail, described
from middlewared.kernel.transition import Transition
from middlewared.kernel.upkeep import LogCheck, Saved
from middlewared.plugin import Alert, Aside, Command, ControllerFacts, Noun, Plugin, Succession, TailFold
from middlewared.ports import Audit, Disks, Host, PoolStore, SecretStore, Upkeep
from middlewared.protocol.peer_calls import AWAY, TIMEOUT_S, failed
from middlewared.protocol.subscription import Cursor

S = TypeVar("S", bound=msgspec.Struct)

FACTS = ControllerFacts(
    version="0",
    boot_id="00000000-0000-0000-0000-000000000000",
    uptime_s=0.0,
    wall_ns=0,
    effects={},
    status="MASTER",
    term=1,
    since_s=0.0,
    why="",
    behind=None,
    paired=False,
    in_sync=("A",),
    last_seq=0,
    commit_seq=0,
    applied_seq=0,
    peer_connected=False,
    peer_heard=False,
    peer_refused=None,
    peer_apart=None,
    log_format=LOG_FORMAT,
    peer=None,
    peer_durable_seq=0,
    peer_applied_seq=0,
    peer_apply_blocked=None,
    lag_events=0,
    lag_ms=0,
    digest_equal_at_seq=0,
    state_differs=None,
    quarantined=0,
    apply_blocked=None,
    no_room=None,
    log_damaged=None,
    disks_ok=0,
    disks_total=0,
    disks=None,
    pool_fault=None,
    serves=True,
    leaving=None,
    failed=None,
    active_urls=(),
    vip_states={},
)


class MemoryLog:
    """What a bus must know of a log: the headlines of its records, all of them applied. nouns: by event kind."""

    def __init__(self, nouns: Mapping[str, str]) -> None:
        self.lines: list[Headline] = []
        self._nouns = nouns

    def append(self, kind: str, term: int = 1) -> Cursor:
        self.lines.append(Headline(len(self.lines) + 1, term, kind))
        return Cursor(len(self.lines), term)

    def applied(self) -> Position:
        return Position(len(self.lines), self.lines[-1].term if self.lines else 0, b"")

    def noun_of(self, kind: str) -> str | None:
        return self._nouns.get(kind)

    def has_noun(self, collection: str) -> bool:
        return collection in self._nouns.values()

    async def headlines(self, after: int, upto: int) -> list[Headline]:
        await asyncio.sleep(0)
        return self.lines[after:upto]


class MemorySuccession:
    """plugin.Succession. outcome: of the next handover, what it came to or why it was not done. wanted: the reasons."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []
        self.outcome: Transition | MiddlewareError | None = None
        self.wanted: list[str] = []
        self.promoting = False

    def history(self) -> list[Transition]:
        return self.transitions

    async def hand_over(self, why: str, told: Callable[[Transition], None]) -> Transition:
        self.wanted.append(why)
        assert self.outcome is not None
        if isinstance(self.outcome, MiddlewareError):
            raise self.outcome
        told(self.outcome)
        return self.outcome


class MemoryEngine:
    """Executes commands at once.

    refusal: what the gate raises, where it is set. executed: what was asked, by whom. peer: what the other controller
    answers or raises, by method; a method that is not there finds it away. asked: what it was asked.
    """

    node: Node = "A"

    def __init__(self, registry: Registry, log: MemoryLog, bus: Bus) -> None:
        self.states: dict[str, Any] = {noun.name: noun.initial for noun in registry.nouns.values()}
        self.refusal: MiddlewareError | None = None
        self.facts_now = FACTS
        self.executed: list[tuple[Command, str, str, str]] = []
        self.peer: dict[str, object | MiddlewareError] = {}
        self.asked: list[tuple[object, ...]] = []
        self._outcomes: dict[Key, Outcome] = {}
        self._past = [dict(self.states)]
        self.files = MemoryUpkeep()
        self.secrets: SecretStore = MemorySecrets()
        self.disks: Disks = NoDisks()
        self.pools: PoolStore | None = None
        self.upkeep: Upkeep = self.files
        self.trail = MemoryTrail()
        self.audit: Audit = self.trail
        self._registry = registry
        self.log = log
        self._bus = bus
        self.set_aside = MemoryAside(registry, self.states)
        self.aside: Aside = self.set_aside
        self._alerts = Alerts(self.node, registry.alert_sources)
        self.roles = MemorySuccession()
        self.succession: Succession = self.roles

    def facts(self) -> ControllerFacts:
        return self.facts_now

    def is_owner(self) -> bool:
        return self.facts_now.status in ("MASTER", "SINGLE")

    def held_secrets(self) -> dict[str, Mapping[str, Sealed | str]]:
        nouns = (noun for noun in self._registry.nouns.values() if noun.secrets is not None)
        return {noun.name: noun.secrets.held(self.states[noun.name]) for noun in nouns if noun.secrets is not None}

    def gate_write(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def state(self, noun: Noun[S]) -> S:
        state: S = self.states[noun.name]
        return state

    async def execute(
        self, command: Command, *, actor: str, origin: str, request_id: str, method: str = ""
    ) -> Committed:
        noun = self._registry.nouns[command.noun]
        known = self._outcomes.get((request_id, actor))
        if known is not None:
            return Committed(known.last, known.term, "pair", known.events, again=True)
        first = self.seq + 1
        events = noun.decide(self.states[noun.name], command)
        for event in events:
            self.states[noun.name] = noun.evolve(self.states[noun.name], event)
            self._past.append(dict(self.states))
            self._bus.committed(noun.name, event.kind, self.log.append(event.kind, self.facts_now.term))
        if self.seq >= first:
            self._outcomes[request_id, actor] = Outcome(first, self.seq, self.facts_now.term, command.noun, 0)
        self.executed.append((command, actor, origin, request_id))
        return Committed(self.seq, self.facts_now.term, "pair", len(events))

    @property
    def seq(self) -> int:
        return self.log.applied().seq

    async def outcome_of(self, *, actor: str, request_id: str) -> Outcome | None:
        return self._outcomes.get((request_id, actor))

    async def state_at(self, noun: Noun[S], seq: int) -> S:
        state: S = self._past[seq][noun.name]
        return state

    async def wait_durable(self, seq: int, level: str, timeout_s: float) -> tuple[int, str]:
        if seq > self.seq:
            raise CallFailed(errno.ENOENT, f"There is no record {seq}: the log ends at {self.seq}")
        return self.facts_now.term, "pair"

    async def state_digest(self) -> tuple[int, str]:
        return self.seq, repr(sorted(self.states.items()))

    def alerts(self, theirs: Sequence[Alert] | None = None) -> list[Alert]:
        own = self._alerts.look(self.facts_now)
        return self._alerts.joined(own, theirs) if theirs is not None else own

    def dismiss_alert(self, id_: str, *, dismissed: bool) -> None:
        self._alerts.dismiss(id_, dismissed=dismissed)

    async def force_master(self) -> None:
        raise CallFailed(errno.EPERM, "An engine in memory has no voters")

    async def open_pairing(self) -> str:
        raise CallFailed(errno.EPERM, "An engine in memory has no peer")

    async def join(self, code: str, host: str, discard_mine: bool) -> None:
        raise CallFailed(errno.EPERM, "An engine in memory has no peer")

    async def ask_peer(self, method: str, *params: object, timeout_s: float = TIMEOUT_S) -> object:
        self.asked.append((method, *params))
        answer = self.peer.get(method, failed(AWAY))
        if isinstance(answer, MiddlewareError):
            raise answer
        return msgspec.to_builtins(answer)


class NoDisks:
    """ports.Disks of a controller without any."""

    async def list(self) -> tuple[Disk, ...]:
        return ()


class MemoryAside:
    """plugin.Aside: keeps tails that the test puts there. settled: (decided, discarded), as said last."""

    def __init__(self, registry: Registry, states: Mapping[str, Any]) -> None:
        self._registry = registry
        self._states = states
        self.kept: dict[str, tuple[Tail, list[Record]]] = {}
        self.settled: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    def put(self, tail: Tail, records: Sequence[Record]) -> Tail:
        self.kept[tail.digest] = (tail, list(records))
        return described(tail, records)

    def tails(self) -> list[Tail]:
        return [tail for tail, _ in self.kept.values()]

    async def described(self, digest: str) -> Tail:
        return described(*self._kept(digest))

    async def page(self, digest: str, offset: int) -> Page:
        """Two records each."""
        records = self._kept(digest)[1]
        return Page(tuple(records[offset : offset + 2]), offset + 2 if offset + 2 < len(records) else None)

    async def fold(self, first: Record) -> TailFold:
        before = {noun.name: noun.initial for noun in self._registry.nouns.values()}
        return ThreeWay(self._registry, before, self._states, Position(first.seq - 1, first.term, first.prev))

    async def settle(self, *, decided: frozenset[str], discarded: frozenset[str]) -> None:
        self.settled = (decided, discarded)
        for digest in discarded & self.kept.keys():
            del self.kept[digest]

    def _kept(self, digest: str) -> tuple[Tail, list[Record]]:
        if digest not in self.kept:
            raise CallFailed(errno.ENOENT, f"There is no tail {digest} in quarantine")
        return self.kept[digest]


class MemoryTrail:
    """ports.Audit, and where notes go: a list, oldest first. logged: what the log shows, newest first."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.logged: list[Event] = []

    def note(self, kind: NoteKind, **fields: Any) -> None:
        self.notes.append(Note(at_ns=0, kind=kind, **fields))

    async def rows(self, wanted: Filter, before: int | None, limit: int) -> list[Kept]:
        kept = [Kept(number, note) for number, note in enumerate(self.notes, 1)]
        return [row for row in reversed(kept) if before is None or row.id < before][:limit]

    async def events(self, wanted: Filter, before: int | None, limit: int) -> list[Event]:
        return [event for event in self.logged if before is None or event.seq < before][:limit]


class MemorySecrets:
    """ports.SecretStore without a cipher: an envelope holds its text, backwards."""

    def __init__(self) -> None:
        self.keys = KeyBundle("k1", {"k1": b""})

    @property
    def active(self) -> str:
        return self.keys.active

    def ids(self) -> tuple[str, ...]:
        return tuple(sorted(self.keys.keys))

    def bundle(self) -> KeyBundle:
        return self.keys

    async def seal(self, noun: str, field: str, text: str, kid: str | None = None) -> Sealed:
        kid = kid or self.keys.active
        self._must_hold(kid)
        return Sealed(kid, bound_to(noun, field), text.encode()[::-1])

    async def open(self, noun: str, field: str, sealed: Sealed) -> str:
        self._must_hold(sealed.kid)
        if sealed.nonce != bound_to(noun, field):
            raise PortFailed(f"open the secret {noun} {field}", f"it is not what key {sealed.kid} closed there")
        return sealed.ct[::-1].decode()

    async def add_key(self) -> str:
        kid = f"k{len(self.keys.keys) + 1}"
        self.keys = KeyBundle(self.keys.active, {**self.keys.keys, kid: b""})
        return kid

    async def activate(self, kid: str) -> None:
        self._must_hold(kid)
        self.keys = KeyBundle(kid, self.keys.keys)

    async def merge(self, bundle: KeyBundle) -> None:
        self.keys = KeyBundle(bundle.active, {**self.keys.keys, **bundle.keys})

    async def drop(self, kid: str) -> None:
        self.keys = KeyBundle(self.keys.active, {name: key for name, key in self.keys.keys.items() if name != kid})

    def _must_hold(self, kid: str) -> None:
        if kid not in self.keys.keys:
            raise PortFailed("open or close a secret", f"this controller does not hold its key {kid}")


class MemoryUpkeep:
    """ports.Upkeep: answers what the test says. verdict: raised where it is an error."""

    def __init__(self) -> None:
        self.verdict: LogCheck | MiddlewareError = LogCheck(intact=True, records=3, term=1, hash="00")

    async def save_config(self, progress: Callable[[float, str], None]) -> Saved:
        progress(50, "1 of 2 MiB")
        return Saved(path="/data/backup/config.tar", size=9, sha256="00", seq=3, digest="11")

    async def verify_log(self, progress: Callable[[float, str], None]) -> LogCheck:
        progress(50, "seq 1 of 2")
        await asyncio.sleep(0)
        if isinstance(self.verdict, MiddlewareError):
            raise self.verdict
        return self.verdict


class MemoryClock:
    """ports.Clock, standing still. The wall shows 2026-01-01."""

    def boottime(self) -> float:
        return 0.0

    def wall_ns(self) -> int:
        return 1_767_225_600 * 10**9


class MemoryHost:
    """plugin's Host: keeps what was set."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}
        self.links: list[HostLink] = []

    async def set_hostname(self, hostname: str) -> None:
        self.kept["hostname"] = hostname

    async def write_resolv_conf(self, nameservers: Any, search: Any) -> None:
        self.kept["nameservers"], self.kept["search"] = list(nameservers), list(search)

    async def write_hosts(self, hostname: str, domain: str, lines: Any) -> None:
        self.kept["hosts"] = (hostname, domain, list(lines))

    async def set_default_route(self, family: int, gateway: str | None) -> None:
        self.kept[f"route{family}"] = gateway

    async def nameservers(self) -> list[str]:
        kept = self.kept.get("nameservers", [])
        return kept if isinstance(kept, list) else []

    async def default_route(self, family: int) -> str | None:
        kept = self.kept.get(f"route{family}")
        return kept if isinstance(kept, str) else None

    async def interfaces(self) -> list[HostLink]:
        return self.links

    async def set_addresses(self, wanted: Any) -> None:
        self.kept["addresses"] = {name: list(addresses) for name, addresses in wanted.items()}


def dispatcher(*plugins: Plugin, deadline_s: float = 5.0) -> tuple[Dispatcher, MemoryEngine, Bus]:
    """A dispatcher over `plugins`, and the engine and the bus behind it."""
    registry = Registry(plugins)
    log = MemoryLog(registry.noun_of)
    bus = Bus(log)
    engine = MemoryEngine(registry, log, bus)
    host: Host = MemoryHost()
    jobs = Jobs(MemoryClock(), bus.publish)
    made = Dispatcher(
        registry,
        engine,
        node=engine.node,
        controller=engine,
        host=host,
        bus=bus,
        jobs=jobs,
        trail=engine.trail,
        deadline_s=deadline_s,
    )
    return made, engine, bus
