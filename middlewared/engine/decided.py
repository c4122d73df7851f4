"""From what a noun decided to the records that say so, in the format in which the log goes on."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import MAX_PAYLOAD, METHOD_SINCE, Catalogue, Event, Position, Record, Stamp
from middlewared.plugin import Noun

S = TypeVar("S", bound=msgspec.Struct)


def write(
    noun: Noun[S],
    state: S,
    events: Sequence[Event],
    after: Position,
    stamp: Stamp,
    catalogue: Catalogue,
    log_format: int,
) -> tuple[list[Record], S]:
    """The records of `events` right after `after`, and the state that follows from `state`.

    Raises Refused for an event that no frame could carry, UpgradePending for one that this format has no words for.
    """
    if log_format < METHOD_SINCE:
        stamp = msgspec.structs.replace(stamp, method="")
    records: list[Record] = []
    for event in events:
        record = catalogue.seal(event, records[-1].position if records else after, stamp, log_format)
        if len(record.payload) > MAX_PAYLOAD:
            raise Refused((event.kind, f"makes an event of more than {MAX_PAYLOAD} bytes", errno.E2BIG))
        records.append(record)
        # An older version may say less: what is folded here is what everybody else will read.
        state = noun.evolve(state, event if record.version == event.version else catalogue.open(record))
    return records, state
