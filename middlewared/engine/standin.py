"""An engine in memory, for the tests of plugins and of the API: real registry, dispatch and bus, a dictionary as store.

answers, engine, bus = dispatcher(plugin)
await answers.answer(session, text, lambda: None)
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from middlewared.engine.alerts import Alerts
from middlewared.engine.bus import Bus
from middlewared.engine.context import Committed
from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.jobs import Jobs
from middlewared.engine.outlook import PairOutlook
from middlewared.engine.registry import Registry
from middlewared.engine.standin_parts import (
    MemoryAside,
    MemoryClock,
    MemoryHost,
    MemorySecrets,
    MemorySuccession,
    MemoryTrail,
    MemoryUpkeep,
    NoDisks,
)
from middlewared.kernel.errors import CallFailed, MiddlewareError
from middlewared.kernel.event import LOG_FORMAT, Headline, Position
from middlewared.kernel.facts import Node
from middlewared.kernel.outcomes import Key, Outcome
from middlewared.kernel.secret import Sealed
from middlewared.plugin import Alert, Aside, Command, ControllerFacts, Noun, Outlook, Plugin, Succession
from middlewared.ports import Audit, Disks, Host, OwnedPools, SecretStore, Upkeep
from middlewared.protocol import hub
from middlewared.protocol.peer_calls import AWAY, TIMEOUT_S, failed
from middlewared.protocol.subscription import Cursor

S = TypeVar("S", bound=msgspec.Struct)

FACTS = ControllerFacts(
    node="A",
    version="0",
    boot_id="00000000-0000-0000-0000-000000000000",
    uptime_s=0.0,
    wall_ns=0,
    effects={},
    status="MASTER",
    term=1,
    since_s=0.0,
    why="",
    halted=None,
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
    pools_degraded={},
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


class MemoryEngine:
    """Executes commands at once.

    refusal: what the gate raises, where it is set. executed: what was asked, by whom. peer: what the other controller
    answers or raises, by method; a method that is not there finds it away. asked: what it was asked. seen: what fenced
    said last that it decided upon.
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
        self.pools: OwnedPools | None = None
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
        self.seen: hub.Seen | None = None
        self.pair_outlook = PairOutlook(
            self.node, MemoryClock(), self.facts, lambda: self.seen, lambda: (), lambda: (), self.ask_peer
        )
        self.outlook: Outlook = self.pair_outlook

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
