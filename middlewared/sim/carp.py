"""One controller's virtual address: the production CARP machine and warrant, over a lease in its kernel.

The kernel answers for the address until the lease ends, whatever becomes of the processes; only a renewal before that
keeps it. A process that stood still says so to its machine first, as carpd/turns.py has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from middlewared.config import Timing
from middlewared.protocol import hub
from middlewared.protocol.carp import CarpMachine
from middlewared.protocol.carp_election import PairedElection
from middlewared.protocol.carp_messages import (
    DropVip,
    Group,
    Message,
    Packet,
    RenewVip,
    Report,
    SendAdvert,
    Stalled,
    TakeVip,
    Tick,
)
from middlewared.protocol.warrant import Warrant
from middlewared.sim.timeline import Clock, Timeline

VHID, ADDRESS = 1, "192.0.2.10"
FENCED_PATIENCE_S = 1.0
Deed: TypeAlias = Literal["take", "renew", "renew too late", "drop"]
Word: TypeAlias = Literal["begins", "sends", "believes"]
"""What a carpd does with adverts. begins: it is a new process, which knows of none."""


class Kernel:
    """What answers for the address. told: of each change."""

    def __init__(self, timeline: Timeline, told: Callable[[Deed], None]) -> None:
        self._timeline = timeline
        self._told = told
        self._until = 0.0

    @property
    def answers(self) -> bool:
        return self._timeline.now < self._until

    def take(self, lease_s: float) -> None:
        self._until = self._timeline.now + lease_s
        self._told("take")

    def renew(self, lease_s: float) -> None:
        late = not self.answers
        self._until = self._timeline.now + lease_s
        self._told("renew too late" if late else "renew")

    def drop(self) -> None:
        self._until = 0.0
        self._told("drop")


class Carp:
    """carpd's part for the one address. send: an advert to the LAN. ask_anew: take a new connection to fenced."""

    def __init__(
        self,
        timing: Timing,
        clock: Clock,
        kernel: Kernel,
        send: Callable[[bytes], None],
        ask_anew: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._kernel = kernel
        self._send = send
        self._ask_anew = ask_anew
        self._stall_s = timing.stall_s
        self._last = now = clock.boottime()
        self._warrant = Warrant(FENCED_PATIENCE_S, now)
        group = Group(
            vhid=VHID,
            address=ADDRESS,
            key=bytes(20),
            advbase=0,
            advskew=round(timing.advert_ms * 256 / 1000),
            dead_count=timing.advert_dead_count,
            lease_s=timing.lease_s,
            renew_s=timing.renew_s,
            stall_s=timing.stall_s,
        )
        self._machine = CarpMachine(group, PairedElection(), now)

    @property
    def heard_at(self) -> float | None:
        return self._machine.heard_at

    def connected(self) -> None:
        self._warrant.connected()

    def lost(self) -> None:
        self._warrant.lost(self._clock.boottime())

    def said(self, standing: hub.Standing) -> None:
        if self._runs_on():
            word = self._warrant.hear(standing)
            if word is not None:
                self._feed(word)

    def heard(self, data: bytes, source: str) -> None:
        if self._runs_on():
            self._feed(Packet(data=data, ttl=255, source=source))

    def tick(self) -> None:
        if self._runs_on():
            word = self._warrant.tick(self._clock.boottime())
            if word is not None:
                self._feed(word)
            self._feed(Tick())

    def _runs_on(self) -> bool:
        """Whether this process ran all the time; where it did not, what it was about to do is not done."""
        now = self._clock.boottime()
        gap_s, self._last = now - self._last, now
        if gap_s <= self._stall_s:
            return True
        self._warrant.forget(now)
        self._feed(Stalled(gap_s=gap_s))
        self._ask_anew()
        return False

    def _feed(self, message: Message) -> None:
        for action in self._machine.receive(message, self._clock.boottime()):
            match action:
                case SendAdvert(data=data):
                    self._send(data)
                case TakeVip(lease_s=lease_s):
                    self._kernel.take(lease_s)
                case RenewVip(lease_s=lease_s):
                    self._kernel.renew(lease_s)
                case DropVip():
                    self._kernel.drop()
                case Report(stalled=True):
                    self._warrant.forget(self._clock.boottime())
                    self._ask_anew()
                case _:
                    pass
