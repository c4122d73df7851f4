"""What was cut from this controller's log and lies in its quarantine directory: found, read, compared, given up.

The log's table of cuts says what there ever was; a file that is gone was discarded, or taken away by somebody. Reading
is done in threads: a tail may be long.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from middlewared.engine.registry import Registry
from middlewared.engine.threeway import ThreeWay
from middlewared.kernel.errors import CallFailed, LogDamaged, PortFailed
from middlewared.kernel.event import START, Record
from middlewared.kernel.facts import Node
from middlewared.kernel.tail import Page, Tail, described
from middlewared.plugin import Noun, TailFold
from middlewared.store import quarantine
from middlewared.store.reader import LogReader

S = TypeVar("S", bound=msgspec.Struct)


class States(Protocol):
    """The committed states; engine.engine.Engine."""

    @property
    def states(self) -> Mapping[str, Any]:
        """Of this moment, by noun."""
        ...

    async def state_at(self, noun: Noun[S], seq: int) -> S:
        """The state of a noun after record `seq`. Raises CallFailed."""
        ...


class SetAside:
    """plugin.Aside."""

    def __init__(
        self,
        node: Node,
        log: LogReader,
        directory: Path,
        registry: Registry,
        states: States,
    ) -> None:
        self._node: Node = node
        self._log = log
        self._directory = directory
        self._registry = registry
        self._states = states
        self._tails: dict[str, Tail] = {}
        self._files: dict[str, Path] = {}
        self._described: dict[str, Tail] = {}
        self._decided: frozenset[str] = frozenset()
        self.refresh()

    def refresh(self) -> None:
        """Look at the log's cuts and the directory anew."""
        cuts = [cut for cut in self._log.cuts() if (self._directory / cut.file).exists()]
        self._files = {cut.digest: self._directory / cut.file for cut in cuts}
        self._tails = {
            cut.digest: Tail(
                node=self._node,
                digest=cut.digest,
                first=cut.first,
                last=cut.last,
                n=cut.n,
                at_ns=cut.at,
                answered=quarantine.answered_in(cut.file),
            )
            for cut in cuts
        }

    @property
    def undecided(self) -> int:
        """How many records lie here about which nobody has decided."""
        return sum(tail.n for tail in self._tails.values() if tail.digest not in self._decided)

    def tails(self) -> list[Tail]:
        """Every tail whose file is there, oldest cut first; told by the log alone, see `described`."""
        return list(self._tails.values())

    async def described(self, digest: str) -> Tail:
        """The same, with what its records say. Raises CallFailed ENOENT, and EIO for a file that is damaged."""
        path = self._file(digest)
        if digest not in self._described:
            try:
                self._described[digest] = await asyncio.to_thread(described, self._tails[digest], quarantine.read(path))
            except (LogDamaged, PortFailed) as e:
                raise CallFailed(errno.EIO, str(e)) from None
        return self._described[digest]

    async def page(self, digest: str, offset: int) -> Page:
        """The records from `offset` on (0: all), as many as one answer to the other controller may hold."""
        try:
            return await asyncio.to_thread(quarantine.page, self._file(digest), offset)
        except (LogDamaged, PortFailed) as e:
            raise CallFailed(errno.EIO, str(e)) from None

    async def fold(self, first: Record) -> TailFold:
        """Begin to fold a tail that begins with `first`, from the state where it left this controller's log.

        Raises CallFailed when the record before it is not in this log.
        """
        record = await asyncio.to_thread(self._log.at, first.seq - 1) if first.seq > 1 else None
        at = record.position if record is not None else START
        if at.hash != first.prev:
            reason = f"The tail follows a record {first.seq - 1} that is not in this log: another cut took it away too"
            raise CallFailed(errno.EINVAL, reason)
        nouns = self._registry.nouns.values()
        before = {noun.name: await self._states.state_at(noun, at.seq) for noun in nouns}
        return ThreeWay(self._registry, before, self._states.states, at)

    async def settle(self, *, decided: frozenset[str], discarded: frozenset[str]) -> None:
        """Digests of the tails about which somebody has decided; the files of those discarded go. States the whole."""
        self._decided = decided
        for digest in discarded & self._files.keys():
            await asyncio.to_thread(quarantine.remove, self._files[digest])
            del self._files[digest], self._tails[digest]
            self._described.pop(digest, None)

    def _file(self, digest: str) -> Path:
        found = self._files.get(digest)
        if found is None:
            raise CallFailed(errno.ENOENT, f"Controller {self._node} has no tail {digest} in quarantine")
        return found
