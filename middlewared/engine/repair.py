"""Performs what protocol.repair asks for, beside everything else that goes on: records are stored, acknowledged and
applied to the old state, which is served, until another one is ready to take its place.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

import msgspec

from middlewared.engine.apply import CommittedState
from middlewared.engine.outside import Threads, one_thread
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import CallFailed, MiddlewareError, PortFailed
from middlewared.kernel.event import Record
from middlewared.kernel.manifest import Manifest
from middlewared.ports import Clock
from middlewared.protocol import replication_values as values
from middlewared.protocol import snapshot as pull
from middlewared.protocol.replication import Replica
from middlewared.protocol.replication_standby import Standby
from middlewared.store import snapshot, sqlite
from middlewared.store.reader import LogReader
from middlewared.store.rows import Difference, words
from middlewared.store.state import StateStore

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

NEAR = 1024
"""So few records may be folded while nothing else is applied."""
ROUNDS = 20
KEPT_S = 600.0
"""How long a snapshot lies ready for a peer that stopped asking."""


class NoState(Exception):
    """Neither the new state nor the old one can be gone on with: this process must end."""


class Ask(Protocol):
    """engine.peer.Peer, as far as it is asked here."""

    async def ask(self, method: str, *params: object, timeout_s: float) -> object: ...


class Repairer:
    """Makes this controller's state anew from its log or from the peer's snapshot.

    path: of state.db. replica: asked where the log is committed, and whether this controller still stands by.
    feed: gives the machine what became of it. resume: applies what was committed while the state was taken over.
    """

    def __init__(
        self,
        state: CommittedState,
        reader: LogReader,
        registry: Registry,
        path: Path,
        peer: Ask,
        clock: Clock,
        replica: Replica,
        *,
        feed: Callable[[values.Message], None],
        resume: Callable[[], None],
        threads: Threads = one_thread,
    ) -> None:
        self._state = state
        self._log = reader
        self._registry = registry
        self._path = path
        self._partial = path.with_name(snapshot.PARTIAL)
        self._peer = peer
        self._clock = clock
        self._replica = replica
        self._feed = feed
        self._resume = resume
        self._thread = threads("repair")
        self._ended = False
        self._busy = asyncio.Lock()
        snapshot.clear(path)

    def close(self) -> None:
        """End what is under way."""
        self._ended = True
        self._thread.shutdown()

    def _go_on(self, _: int) -> None:
        if self._ended:
            raise PortFailed("fold the log anew", "this process ends")

    async def refold(self, seq: int, wanted: str) -> None:
        """Refold -> Refolded."""
        async with self._busy:
            digest, repaired = await self._refold(seq, wanted)
        self._feed(values.Refolded(seq, digest, repaired))

    async def _refold(self, seq: int, wanted: str) -> tuple[str, bool]:
        takes = self._state.takes
        try:
            beside = await self._run(self._beside, None)
            digest = await self._run(beside.to, seq, self._go_on)
            repaired = digest == wanted and await self._take_over(beside, takes, seq, "log")
            if not repaired:
                await self._run(beside.drop)
        except MiddlewareError as e:
            log.error("event=state_not_refolded why=%r", str(e))
            return "", False
        return digest, repaired

    async def fetch(self) -> None:
        """FetchSnapshot -> SnapshotInstalled, SnapshotRefused or SnapshotNotFetched."""
        async with self._busy:
            try:
                got = await self._pull()
                why = await self._put_in_place(got) if isinstance(got, Manifest) else None
            except MiddlewareError as e:
                got = why = str(e)
        if why is not None:
            log.error("event=snapshot_refused why=%r", why)
            self._feed(values.SnapshotRefused(why))
        elif isinstance(got, str):
            self._feed(values.SnapshotNotFetched(got))
        else:
            self._feed(values.SnapshotInstalled())

    async def _put_in_place(self, got: Manifest) -> str | None:
        """Install what was fetched; why not, where it may not be."""
        takes = self._state.takes
        why = await self._why_refused(got)
        if why is not None:
            return why
        beside = await self._run(self._beside, self._partial)
        if beside.digest != got.digest:
            why = f"its rows give the digest {beside.digest}, not {got.digest}"
        elif not await self._take_over(beside, takes, got.seq, "snapshot"):
            why = "the log was cut meanwhile, or this controller owns now"
        if why is not None:
            await self._run(beside.drop)
        return why

    # --- taking over ---

    def _beside(self, copy: Path | None) -> snapshot.Beside:
        nouns = self._registry.nouns.values()
        return snapshot.Beside(self._log, self._path, self._registry.catalogue, nouns, copy)

    async def _take_over(self, beside: snapshot.Beside, takes: int, seq: int, source: str) -> bool:
        """Catch up with what is applied, and take its place. False where the role changed, or the log was cut.

        takes: how often the state had been taken over when `beside` was begun.
        """
        state = self._state
        for _ in range(ROUNDS):
            await self._run(beside.to, state.applied.seq, self._go_on)
            if state.applied.seq - beside.at.seq <= NEAR:
                break
        await self._run(beside.finish, state.pair_seq)
        failed: list[MiddlewareError] = []
        async with state.taking:
            if state.takes != takes or not isinstance(self._replica.side, Standby):
                return False
            try:
                difference = await state.install(lambda: self._swap(beside, failed), self._between)
            except MiddlewareError as e:
                raise NoState(f"no state can be opened: {e}") from e
        self._resume()
        if failed:
            raise failed[0]
        await self._run(snapshot.forget_old, self._path)
        self._report(seq, source, difference)
        return True

    def _swap(self, beside: snapshot.Beside, failed: list[MiddlewareError]) -> StateStore:
        try:
            return beside.swap()
        except MiddlewareError as e:
            failed.append(e)
            return StateStore.open(self._path, self._registry.nouns.values())

    def _between(self, after: int, upto: int) -> Sequence[Record]:
        return snapshot.between(self._log, after, upto)

    def _report(self, seq: int, source: str, difference: Difference | None) -> None:
        what = words(difference) if difference is not None else "no row differs any more"
        log.error("event=state_differs seq=%d repaired_from=%s %s", seq, source, what)
        self._state.differs = (seq, f"at seq {seq}, repaired from the {source}: {what}")

    # --- the peer's snapshot ---

    async def _pull(self) -> Manifest | str:
        """Have the whole file in `_partial`; otherwise why not."""
        fetch = pull.Fetch(self._clock.boottime())
        while True:
            now = self._clock.boottime()
            match fetch.step(now):
                case pull.Wait(until):
                    await asyncio.sleep(until - now)
                case pull.GaveUp(why):
                    return why
                case pull.Whole(manifest):
                    return manifest
                case step:
                    await self._ask(fetch, step)

    async def _ask(self, fetch: pull.Fetch, step: pull.Take | pull.Read) -> None:
        try:
            if isinstance(step, pull.Take):
                answer = await self._peer.ask(pull.TAKE, timeout_s=pull.TAKE_TIMEOUT_S)
                fetch.took(msgspec.convert(answer, Manifest, builtin_types=(bytes,)))
                return
            params = (step.id, step.offset, step.length)
            data = await self._peer.ask(pull.READ, *params, timeout_s=pull.READ_TIMEOUT_S)
        except CallFailed as e:
            fetch.failed(e.reason, self._clock.boottime(), gone=e.errno == errno.ESTALE)
            return
        except msgspec.ValidationError as e:
            fetch.failed(f"its manifest: {e}", self._clock.boottime(), gone=True)
            return
        if not isinstance(data, bytes) or len(data) != step.length:
            fetch.failed("a piece has another length", self._clock.boottime(), gone=True)
            return
        await self._run(snapshot.keep, self._partial, step.offset, data)
        fetch.got(data)

    async def _why_refused(self, manifest: Manifest) -> str | None:
        committed_seq = self._replica.log.committed.seq
        if manifest.seq > committed_seq:
            return f"this log is committed up to seq {committed_seq} only, not {manifest.seq}"
        found = await self._run(self._log.at, manifest.seq)
        mine = found.position if found is not None else None
        return await self._run(snapshot.why_refused, self._partial, manifest, self._state.shape, mine)

    async def _run(self, function: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


class Snapshots:
    """What the peer may have: one snapshot at a time, taken when it asks and freed when it asks no more.

    path: of state.db. others: answers every other question of the peer.
    """

    def __init__(
        self,
        state: CommittedState,
        registry: Registry,
        path: Path,
        others: Callable[[str, Sequence[object]], Awaitable[object]],
    ) -> None:
        self._state = state
        self._registry = registry
        self._others = others
        self._path = path
        self._copy = path.with_name(snapshot.COPY)
        self._manifest: Manifest | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._taking = asyncio.Lock()
        self.close()

    def close(self) -> None:
        """Free the room."""
        self._manifest = None
        sqlite.remove(self._copy)

    async def answer(self, method: str, params: Sequence[object]) -> object:
        """snapshot.take and snapshot.read. Raises CallFailed and what the store raises."""
        if method not in (pull.TAKE, pull.READ):
            return await self._others(method, params)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(KEPT_S, self.close)
        if method == pull.TAKE:
            async with self._taking:
                return msgspec.to_builtins(await self._take(), builtin_types=(bytes,))
        match list(params):
            case [str() as id_, int() as offset, int() as length] if offset >= 0 and 0 <= length <= pull.PIECE:
                if self._manifest is None or self._manifest.id != id_:
                    raise CallFailed(errno.ESTALE, "This snapshot is not here any longer")
                return await asyncio.to_thread(snapshot.read, self._copy, offset, length)
            case _:
                raise CallFailed(errno.EINVAL, "snapshot.read takes an id, an offset and a length")

    async def _take(self) -> Manifest:
        self._manifest = None
        nouns = list(self._registry.nouns.values())
        id_ = secrets.token_hex(8)
        log_format = self._state.log_format
        self._manifest = await asyncio.to_thread(snapshot.take, self._path, self._copy, id_, log_format, nouns)
        log.info("event=snapshot_taken seq=%d size=%d", self._manifest.seq, self._manifest.size)
        return self._manifest
