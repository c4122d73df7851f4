"""Was every answer true? The clients' history held against the logs of both controllers. Pure.

Every write sets one register, the domain, to a value that no other write uses, so the log's order of those values is
the one order in which the writes can have happened, and there is nothing to search for:

    lost          answered `ok`, and its value is neither in the log at the seq that was answered nor in quarantine
                  (quarantine counts for level single only)
    duplicated    a value, or a request id, that stands in the log twice
    unexplained   a value in the log that no client sent; a write that was refused for good and is in the log all the
                  same; a write that stands before another which was answered before it was sent (the order that the
                  clients saw is not the log's); logs that differ

An unknown outcome may be either, as long as it is one of the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.event import Record

KIND = "network.configuration.updated"
Level: TypeAlias = Literal["pair", "single", "unknown", "refused"]


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One write as its client saw it. sent, answered: seconds of one monotonic clock. seq: 0 where none was told."""

    client: int
    value: str
    level: Level
    sent: float
    answered: float
    seq: int = 0
    said: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Each fault as a sentence."""

    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    unexplained: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.unexplained)


def check(writes: Sequence[Write], logs: Mapping[str, Sequence[Record]], aside: Sequence[Record]) -> Verdict:
    """logs: of each controller, whole. aside: what lies in quarantine on either."""
    (_, log), *others = logs.items()
    found = [(record, value) for record in log if (value := _value(record)) is not None]
    seq_of = {value: record.seq for record, value in found}
    kept_aside = {value for record in aside if (value := _value(record)) is not None}
    return Verdict(
        lost=tuple(_lost(writes, seq_of, kept_aside)),
        duplicated=tuple(_duplicated(found)),
        unexplained=(
            *_unknown_to_clients(writes, found),
            *_refused_and_done(writes, seq_of),
            *_out_of_order(writes, seq_of),
            *(f"the log of {node} differs" for node, other in others if _hashes(other) != _hashes(log)),
        ),
    )


def _value(record: Record) -> str | None:
    """The domain that this record sets, if it sets one."""
    if record.kind != KIND:
        return None
    domain = msgspec.json.decode(record.payload).get("domain")
    return domain if isinstance(domain, str) else None


def _hashes(log: Sequence[Record]) -> list[bytes]:
    return [record.hash for record in log]


def _lost(writes: Sequence[Write], seq_of: Mapping[str, int], aside: set[str]) -> Iterator[str]:
    for write in writes:
        if write.level not in ("pair", "single"):
            continue
        seq = seq_of.get(write.value)
        if seq is None and not (write.level == "single" and write.value in aside):
            yield f"{write.value} was answered at level {write.level}, seq {write.seq}, and is gone"
        elif seq is not None and write.seq not in (0, seq):
            yield f"{write.value} was answered with seq {write.seq} and stands at {seq}"


def _duplicated(found: Sequence[tuple[Record, str]]) -> Iterator[str]:
    for value, count in Counter(value for _, value in found).items():
        if count > 1:
            yield f"{value} stands in the log {count} times"
    for id_, count in Counter(record.request_id for record, _ in found).items():
        if count > 1:
            yield f"request {id_} stands in the log {count} times"


def _unknown_to_clients(writes: Sequence[Write], found: Sequence[tuple[Record, str]]) -> Iterator[str]:
    sent = {write.value for write in writes}
    for record, value in found:
        if value not in sent:
            yield f"seq {record.seq} holds {value}, which no client sent"


def _refused_and_done(writes: Sequence[Write], seq_of: Mapping[str, int]) -> Iterator[str]:
    for write in writes:
        if write.level == "refused" and write.value in seq_of:
            yield f"{write.value} was refused ({write.said}) and stands at seq {seq_of[write.value]}"


def _out_of_order(writes: Sequence[Write], seq_of: Mapping[str, int]) -> Iterator[str]:
    """Of two writes that did not overlap, the later one stands later: one walk over both in the order of time."""
    done = [w for w in writes if w.level in ("pair", "single") and w.value in seq_of]
    by_answer = iter(sorted(done, key=lambda w: w.answered))
    answered, highest = next(by_answer, None), 0
    for write in sorted((w for w in writes if w.value in seq_of), key=lambda w: w.sent):
        while answered is not None and answered.answered < write.sent:
            highest = max(highest, seq_of[answered.value])
            answered = next(by_answer, None)
        if seq_of[write.value] < highest:
            yield f"{write.value} stands at seq {seq_of[write.value]}, before one that was answered before it was sent"
