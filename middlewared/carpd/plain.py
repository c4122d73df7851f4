"""carpd among foreign CARP routers (ucarp, BSD): one VIP by ordinary election, without fenced and without an interlink.

A VIP that is held in this way says nothing about who may write the shared disks.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable

from middlewared.carpd.group import CarpGroup
from middlewared.carpd.turns import Turns
from middlewared.carpd.wires import Heard, Wires
from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Vip
from middlewared.ports import Clock
from middlewared.protocol.carp import CarpMachine
from middlewared.protocol.carp_election import PlainElection
from middlewared.protocol.carp_messages import Group, Message, Packet, Stalled, Start, Tick, Withdraw
from middlewared.protocol.carp_packet import vhid_of
from middlewared.protocol.sightings import Sightings
from middlewared.shell.journal import Journal
from middlewared.shell.links import Links
from middlewared.shell.netlink import Netlink
from middlewared.shell.vip_interface import VipInterface, tidy

_LOOK_AGAIN_S = 0.25


class PlainRouter:
    """Takes part while the interface has carrier. password: as CARP has it, at most 20 bytes; advskew in 1/256 s."""

    def __init__(self, clock: Clock, vip: Vip, password: bytes, advbase: int, advskew: int) -> None:
        self._journal = Journal("carpd")
        self._netlink = Netlink()
        self._links = Links(self._netlink, self._links_changed)
        self._wires = Wires(self._links, self._journal, self._wire_readable)
        settings = Group(vhid=vip.vhid, address=vip.address, key=password, advbase=advbase, advskew=advskew)
        election = PlainElection(
            settings.interval_s,
            settings.dead_count * advbase,
            self._wires.source(vip.interface, vip.address),
            secrets.randbits(64),
        )
        machine = CarpMachine(settings, election, clock.boottime())
        interface = VipInterface(self._netlink, self._links, vip)
        self._group = CarpGroup(machine, interface, self._wires, self._journal, Sightings())
        self._turns = Turns(
            clock, settings.stall_s, on_stall=self._stood_still, on_deadline=self._tick, after=self._after
        )

    async def run(self) -> None:
        """Take part until cancelled; then leave in good order."""
        asyncio.get_running_loop().add_reader(
            self._links.fileno(), lambda: self._turns.take(lambda _: self._links.read())
        )
        self._group.prepare()
        self._wires.want((self._group.vip,), neighbours=False)
        self._turns.take(self._follow_carrier)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._turns.take(lambda now: self._tell(Withdraw(why="carpd ends"), now))
            self._close()
            raise

    def _follow_carrier(self, now: float) -> None:
        self._wires.look_anew()
        if self._links.has_carrier(self._group.vip.interface):
            self._tell(Start(), now)
        else:
            self._tell(Withdraw(why=f"{self._group.vip.interface} has no carrier"), now)

    def _links_changed(self) -> None:
        self._wires.refresh()
        self._turns.take(self._follow_carrier)

    def _wire_readable(self, read: Callable[[], list[Heard]], interface: str) -> None:
        self._turns.take(lambda now: self._adverts(read(), now))

    def _adverts(self, heard: list[Heard], now: float) -> None:
        for packet in heard:
            if isinstance(packet, Packet) and vhid_of(packet.data) == self._group.vip.vhid:
                self._tell(packet, now)

    def _tick(self, now: float) -> None:
        self._tell(Tick(), now)
        with contextlib.suppress(PortFailed):  # It is tried again with the next tick.
            tidy(self._netlink, self._links, {self._group.vip.vhid: self._group.holds}, alone=False)

    def _stood_still(self, gap_s: float, now: float) -> None:
        self._tell(Stalled(gap_s=gap_s), now)
        self._wires.discard()

    def _tell(self, message: Message, now: float) -> None:
        self._group.receive(message, now)

    def _after(self, now: float) -> float:
        self._links.read()
        deadline = self._group.machine.deadline()
        return min(now + _LOOK_AGAIN_S, deadline) if deadline is not None else now + _LOOK_AGAIN_S

    def _close(self) -> None:
        self._turns.stop()
        asyncio.get_running_loop().remove_reader(self._links.fileno())
        self._group.remove()
        self._wires.close()
        self._links.close()
        self._netlink.close()
