"""What the file of numbered records must be, given what clients were told. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from middlewared.kernel.facts import Node


class Record(msgspec.Struct, frozen=True):
    """One line of the file, or one acknowledgement: the number, and who wrote it."""

    number: int
    node: Node


class Told(msgspec.Struct, frozen=True):
    """An acknowledgement as the client heard it, at_ns of the monotonic clock."""

    at_ns: int
    record: Record


class Verdict(msgspec.Struct, frozen=True):
    """lost: acknowledged and not there. twice: numbers that are there more than once. holes: numbers that are missing
    between others. torn: lines that are no records. count: of records in the file.
    """

    count: int
    lost: tuple[Record, ...] = ()
    twice: tuple[int, ...] = ()
    holes: tuple[int, ...] = ()
    torn: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        return not (self.lost or self.twice or self.holes or self.torn)


def parse(text: str) -> Record:
    """Raises ValidationError, ValueError."""
    number, _, node = text.strip().partition(" ")
    return msgspec.convert({"number": int(number), "node": node}, Record)


def read(text: str) -> tuple[list[Record], list[str]]:
    """The records of a file, in its order, and the lines that are none."""
    records, torn = [], []
    for line in text.splitlines():
        try:
            records.append(parse(line))
        except (ValueError, msgspec.ValidationError):
            torn.append(line)
    return records, torn


def check(told: Iterable[Told], text: str) -> Verdict:
    records, torn = read(text)
    there = Counter(records)
    numbers = Counter(record.number for record in records)
    return Verdict(
        count=len(records),
        lost=tuple(ack.record for ack in told if ack.record not in there),
        twice=tuple(sorted(number for number, times in numbers.items() if times > 1)),
        holes=tuple(sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))),
        torn=tuple(torn),
    )


def turns(records: Sequence[Record]) -> list[Node]:
    """Who wrote, in the order of the file: each change of hands once."""
    order: list[Node] = []
    for record in records:
        if not order or order[-1] != record.node:
            order.append(record.node)
    return order
