"""Whether failover is available and what it would do: plugin.Outlook.

What the other controller knows of itself is asked of it four times a second, one small question, so that nobody waits
for an answer when somebody wants to know: a status method answers from what was told last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from middlewared.kernel.errors import MiddlewareError, NoRole, Refused
from middlewared.kernel.facts import Node
from middlewared.kernel.outlook import Availability, Configured, Explanation, Forecast, Line, Reason, Shown, Side
from middlewared.plugin import ControllerFacts
from middlewared.ports import Clock
from middlewared.protocol import hub
from middlewared.protocol.availability import availability, disagreements
from middlewared.protocol.dry_run import FAULTS, dry_run
from middlewared.protocol.explain import explain
from middlewared.protocol.failover_view import Situation, View, seen

INTERVAL_S = 0.25
ASK_TIMEOUT_S = 0.5
SIDE, VIEW = "failover.side", "failover.view"
"""The questions of plugins/failover that are asked of the other controller."""

CHANGING = {"ELECTING": "is about to be active", "IMPORTING": "imports its pools"}


class PairOutlook:
    """One controller's.

    facts: of this controller. heard: what fenced said last that it decided upon. pools, imported: the guids of those
    that are configured, and of those that are here. ask: Peer.ask.
    """

    def __init__(
        self,
        node: Node,
        clock: Clock,
        facts: Callable[[], ControllerFacts],
        heard: Callable[[], hub.Seen | None],
        pools: Callable[[], tuple[str, ...]],
        imported: Callable[[], tuple[str, ...]],
        ask: Callable[..., Awaitable[object]],
    ) -> None:
        self._node: Node = node
        self._clock = clock
        self._facts = facts
        self._heard = heard
        self._pools = pools
        self._imported = imported
        self._ask = ask
        self._peer_side: Side | None = None
        self._since: dict[tuple[str, Node | None], Mapping[str, int]] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Ask the other controller for its side."""
        try:
            self._peer_side = msgspec.convert(await self._ask(SIDE, timeout_s=ASK_TIMEOUT_S), Side)
        except (MiddlewareError, msgspec.ValidationError):
            self._peer_side = None  # it is away, or of a version that does not say it

    def side(self) -> Side:
        """What this controller shows the other one."""
        facts, shown = self._facts(), self._heard()
        told = Side(
            node=self._node,
            version=facts.version,
            status=facts.status,
            halted=facts.halted,
            behind=facts.behind,
            blocked=facts.apply_blocked,
            voters_ok=facts.disks_ok,
            voters=facts.disks_total,
            vips=facts.vip_states,
            disks=facts.disks,
            pools=self._imported(),
            fault=facts.pool_fault,
            failed=facts.failed,
            changing="hands over" if facts.leaving is not None else CHANGING.get(facts.status),
        )
        return told if shown is None else _with_view(told, Situation(seen(shown.view), shown.at))

    def peer_side(self) -> Side | None:
        """What the other one showed last; None: it is not connected, or shows nothing."""
        return self._peer_side if self._facts().peer_connected else None

    def disagreements(self) -> tuple[Reason, ...]:
        """What does not fit together between the two, as far as the other one says it."""
        theirs = self.peer_side()
        return tuple(disagreements(self.side(), theirs)) if theirs is not None else ()

    def availability(self, configured: Configured) -> Availability:
        """As this controller sees it; each reason with when it was first seen to hold."""
        facts, heard = self._facts(), self._heard()
        configured = msgspec.structs.replace(configured, pools=self._pools())
        settings = seen(heard.view).settings if heard is not None else None
        if settings is not None and settings.vips:
            configured = msgspec.structs.replace(configured, vips=tuple(vip.address for vip in settings.vips))
        line = Line(
            paired=facts.paired,
            heard=facts.peer_heard,
            up=facts.peer_connected,
            refused=facts.peer_refused,
            apart=facts.peer_apart,
            blocked=facts.peer_apply_blocked,
            both_in_sync=len(facts.in_sync) > 1,
        )
        found = availability(self.side(), self.peer_side(), line, configured)
        return msgspec.structs.replace(found, reasons=self._dated(found.reasons, facts.wall_ns))

    def _dated(self, reasons: tuple[Reason, ...], wall_ns: int) -> tuple[Reason, ...]:
        before, now = self._since, {"$date": wall_ns // 10**6}
        self._since = {(reason.code, reason.node): before.get((reason.code, reason.node), now) for reason in reasons}
        return tuple(msgspec.structs.replace(reason, since=self._since[reason.code, reason.node]) for reason in reasons)

    def explain(self) -> Explanation:
        """Raises NoRole while fenced has not been heard."""
        view, at = self._view()
        return explain(view, at, self._clock.boottime())

    def shown(self) -> Shown:
        """What fenced decided upon, for the other controller. Raises NoRole."""
        heard = self._heard()
        if heard is None:
            raise NoRole("fenced has not been heard yet")
        return Shown(at=heard.at, view=bytes(heard.view).decode())

    async def dry_run(self, fault: str) -> Forecast:
        """Raises Refused for a fault that is not known, NoRole while fenced has not been heard."""
        if fault not in FAULTS:
            raise Refused(("fault", f"{fault!r} is not one of {', '.join(FAULTS)}"))
        view, at = self._view()
        theirs, their_time = None, at
        try:
            told = msgspec.convert(await self._ask(VIEW, timeout_s=ASK_TIMEOUT_S), Shown)
            theirs, their_time = seen(told.view.encode()), told.at
        except (MiddlewareError, msgspec.MsgspecError):
            pass  # then it is supposed to see what it should
        return await asyncio.to_thread(dry_run, fault, view, at, theirs, their_time)

    def _view(self) -> tuple[View, float]:
        heard = self._heard()
        if heard is None:
            raise NoRole("fenced has not been heard yet")
        return seen(heard.view), heard.at


def _with_view(told: Side, s: Situation) -> Side:
    heard, view = s.view.heard, s.view
    lost = None
    if heard is not None and not heard.links_up:
        down = ", ".join(link.name for link in heard.links if not link.up)
        lost = f"a network is lost ({down})" if down else "a network is lost"
    return msgspec.structs.replace(
        told,
        carrier=heard.carrier if heard is not None else None,
        lost_links=lost,
        held=view.ended_often,
        flapping=s.flapping,
    )
