"""Two builds beside each other: which is the older one, and what they can do together."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from middlewared.protocol.replication_frames import Identity

Age: TypeAlias = Literal["older", "same", "newer", "other"]
"""What the peer's build is, seen from here; other: of the same age, and it knows other events."""


def age(mine: Identity, theirs: Identity) -> Age:
    """By the formats that they read, then by the version; the first build named none."""
    here, there = _rank(mine), _rank(theirs)
    if there != here:
        return "older" if there < here else "newer"
    return "same" if theirs.catalogue == mine.catalogue else "other"


def _rank(identity: Identity) -> tuple[int, list[int]]:
    return identity.log_format_max, [int(number) for number in re.findall(r"\d+", identity.version)]
