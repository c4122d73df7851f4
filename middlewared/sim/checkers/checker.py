"""What a checker sees, and how it says that something is wrong.

Most checks are made at the moment at which the rule could be broken; what can only be told from the whole is checked
`at_end`, when all faults are over and the pair is whole again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from middlewared.kernel.event import Position, Record
from middlewared.kernel.facts import Node
from middlewared.sim.carp import Deed, Word
from middlewared.sim.clients import Answer, Operation
from middlewared.sim.disk import Platter
from middlewared.sim.voter import Disk

FIRST_TERM = 1
"""In which the log of A began, before there was a pair."""

Report: TypeAlias = Callable[[str, str], None]
"""Called with the checker's name and with what is wrong."""


class Scene(Protocol):
    """The world, as far as checkers look at it. forced: whether an operator ever accepted the loss of writes."""

    disks: list[Disk]
    forced: bool

    @property
    def platters(self) -> Mapping[Node, Platter]: ...

    @property
    def operations(self) -> Sequence[Operation]: ...

    def importers(self, guid: str) -> set[Node]:
        """Who has the pool imported at this instant."""
        ...

    def disks_of(self, node: Node) -> list[Disk]:
        """The shared disks that the controller reaches."""
        ...

    lease_s: float
    """For how long a kernel answers for the address on the strength of one word of its carpd."""
    both_may_answer_s: float
    """For how long two may answer for the address: a lease of the term, and one of the address."""

    def answers(self, node: Node) -> bool:
        """Whether the kernel of `node` answers for the address."""
        ...

    def states(self, node: Node) -> Mapping[str, Any] | None:
        """The committed state of a node; None while it does not run."""
        ...


class Checker:
    """One promise. name: its number in the list of invariants and what it is about."""

    name: str

    def __init__(self, scene: Scene, report: Report) -> None:
        self.scene = scene
        self._report = report

    def wrong(self, why: str) -> None:
        self._report(self.name, why)

    def stored(self, node: Node, records: Sequence[Record]) -> None:
        """These became durable on `node`."""

    def proposed(self, node: Node, records: Sequence[Record]) -> None:
        """The owner `node` makes these."""

    def committed(self, node: Node, commit_seq: int, pair_seq: int) -> None:
        """`node` may apply and answer up to commit_seq; up to pair_seq it believes to be on both."""

    def applied(self, node: Node, at: Position) -> None:
        """Everything up to `at` is visible on `node`."""

    def address(self, node: Node, deed: Deed, at_s: float) -> None:
        """What `node` did with its virtual address, at this virtual time."""

    def advert(self, node: Node, word: Word, data: bytes) -> None:
        """What carpd of `node` does with an advert: it sends it, or believes what another sent."""

    def stood_still(self, node: Node, for_s: float) -> None:
        """`node` was frozen for so long, and runs again from this moment on."""

    def importing(self, node: Node, guid: str) -> None:
        """`node` begins to import this pool."""

    def imported(self, node: Node, guid: str) -> None:
        """`node` has just imported this pool."""

    def exporting(self, node: Node, name: str) -> None:
        """`node` begins to export this pool."""

    def granted(self, node: Node, term: int) -> None:
        """fenced of `node` won `term`."""

    def answered(self, operation: Operation, answer: Answer) -> None:
        """This was given out."""

    def at_end(self) -> None:
        """All faults are over, and the pair had its time to become whole."""
