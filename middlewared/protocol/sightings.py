"""Strangers on the LAN, kept for as long as they are there: who was seen, how often, since when.

One entry for each (kind, interface, VHID), with whoever was seen last: somebody who draws a new address for each frame
fills no memory. What was not seen for `FORGET_S` is over and forgotten.
"""

from __future__ import annotations

from middlewared.kernel.facts import Sighting, SightingKind

FORGET_S = 10.0
AT_MOST = 64
"""So many are told at once, the gravest first: a message to fenced has its limit, and so has an operator."""

_GRAVITY: dict[SightingKind, int] = {"VIP_CONFLICT": 0, "DUPLICATE_VHID": 1, "FOREIGN_VHID": 2}


class Sightings:
    """now: CLOCK_BOOTTIME seconds."""

    def __init__(self) -> None:
        self._seen: dict[tuple[SightingKind, str, int], Sighting] = {}

    def saw(
        self,
        kind: SightingKind,
        interface: str,
        vhid: int,
        who: str,
        how: str,
        now: float,
        *,
        address: str = "",
        times: int = 1,
    ) -> None:
        key = (kind, interface, vhid)
        known = self._seen.get(key)
        over = known is None or now - known.last_at > FORGET_S
        self._seen[key] = Sighting(
            kind=kind,
            interface=interface,
            vhid=vhid,
            address=address,
            who=who,
            how=how,
            count=times if known is None or over else known.count + times,
            first_at=now if known is None or over else known.first_at,
            last_at=now,
        )

    def current(self, now: float) -> tuple[Sighting, ...]:
        """Who is there, the gravest first."""
        self._seen = {key: seen for key, seen in self._seen.items() if now - seen.last_at <= FORGET_S}
        found = sorted(self._seen.values(), key=lambda seen: (_GRAVITY[seen.kind], seen.interface, seen.vhid))
        return tuple(found[:AT_MOST])

    def forget(self, interfaces: frozenset[str]) -> None:
        """Only these interfaces have VIPs from now on."""
        self._seen = {key: seen for key, seen in self._seen.items() if seen.interface in interfaces}
