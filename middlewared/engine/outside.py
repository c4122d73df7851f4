"""What the engine needs of the two databases, the threads on which it waits for them, and its controller's role.

middlewared/store has the real ones; the simulator has others, which lose and delay what a power cut and a disk may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from middlewared.kernel.event import Headline, Position, Record
from middlewared.kernel.outcomes import Delta, Outcomes
from middlewared.plugin import Noun
from middlewared.store.cut import Cut
from middlewared.store.rows import Rows
from middlewared.store.state import Applied

Threads: TypeAlias = Callable[[str], Executor]
"""name -> a thread of that name, which does one thing after the other."""


def one_thread(name: str) -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix=name)


class Log(Protocol):
    """store.log.LogStore, as far as the replicator asks it."""

    def head(self) -> Position: ...

    def at(self, seq: int) -> Record | None: ...

    def since(self, seq: int, limit: int) -> list[Record]: ...

    def checked(self, seq: int, limit: int) -> tuple[Position, list[Record]]: ...

    def headlines(self, after: int, upto: int) -> list[Headline]: ...

    def of_kinds(self, kinds: Sequence[str], seq: int, upto: int, limit: int) -> list[Record]: ...

    def term_history(self) -> list[tuple[int, int, bytes]]: ...

    def append(self, group: Sequence[Record]) -> Position: ...

    def reopen(self) -> Position: ...

    def cut(self, after: Position, quarantine: Path, *, pair_seq: int = 0, committed_seq: int = 0) -> Cut | None: ...


class Projections(Protocol):
    """store.state.StateStore, as far as the committed state asks it."""

    shape: str
    rows: Rows

    def applied(self) -> Applied: ...

    def load(self, nouns: Iterable[Noun[Any]]) -> dict[str, Any]: ...

    def project(self, changed: Mapping[Noun[Any], Any]) -> str: ...

    def write(self, applied: Position, pair_seq: int, commands: Delta | None = None) -> None: ...

    def outcomes(self) -> Outcomes: ...

    @property
    def digest(self) -> str: ...

    def close(self) -> None: ...


class Tenure(Protocol):
    """What the engine asks about its controller's role. closing: why an owner takes no new writes."""

    closing: str | None

    def active_urls(self) -> tuple[str, ...]: ...

    def is_standby(self) -> bool: ...

    def is_sure(self) -> bool: ...

    def why(self) -> str:
        """The sentence of the rule that gave the role."""
        ...
