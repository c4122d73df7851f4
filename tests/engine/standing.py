"""What fenced says of a controller, with everything left out that a test does not care about."""

from __future__ import annotations

from middlewared.kernel.facts import PairRecord
from middlewared.protocol import hub


def standing(
    role: hub.Role, term: int, record: PairRecord | None = None, why: str = "because", said_at: float = 0.0
) -> hub.Standing:
    return hub.Standing(
        role=role,
        term=term,
        since=0.0,
        said_at=said_at,
        why=why,
        rule="rule",
        record=record,
        voters=(),
        peer_interlink_at=None,
        peer_advert_at=None,
        peer_disk_at=None,
        settled=True,
        resigned=False,
        scheduling="",
        serves=role in ("OWNER", "SINGLE"),
    )
