"""What stands in for the ports of a controller in tests: in memory, and asked afterwards what it was told."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from middlewared.engine.registry import Registry
from middlewared.engine.threeway import ThreeWay
from middlewared.kernel.audit import Event, Filter, Kept, Note, NoteKind
from middlewared.kernel.errors import CallFailed, MiddlewareError, PortFailed
from middlewared.kernel.event import Position, Record
from middlewared.kernel.facts import HostLink
from middlewared.kernel.pools import Disk
from middlewared.kernel.secret import KeyBundle, Sealed, bound_to
from middlewared.kernel.tail import Page, Tail, described
from middlewared.kernel.transition import Transition
from middlewared.kernel.upkeep import LogCheck, Saved
from middlewared.plugin import TailFold

S = TypeVar("S", bound=msgspec.Struct)


class MemorySuccession:
    """plugin.Succession. outcome: of the next handover, what it came to or why it was not done. wanted: the reasons."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []
        self.outcome: Transition | MiddlewareError | None = None
        self.wanted: list[str] = []
        self.promoting = False
        self.leaving: str | None = None

    def history(self) -> list[Transition]:
        return self.transitions

    async def hand_over(self, why: str, told: Callable[[Transition], None]) -> Transition:
        self.wanted.append(why)
        assert self.outcome is not None
        if isinstance(self.outcome, MiddlewareError):
            raise self.outcome
        told(self.outcome)
        return self.outcome


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
