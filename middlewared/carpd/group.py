"""One group and its hands: the machine decides, the kernel's address and the wire obey."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from middlewared.carpd.wires import Wires
from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node, Vip
from middlewared.protocol import ethernet, hub
from middlewared.protocol.carp import CarpMachine
from middlewared.protocol.carp_messages import (
    Action,
    Announce,
    Condition,
    DropVip,
    Message,
    Probe,
    RenewVip,
    Report,
    SendAdvert,
    Sighted,
    TakeVip,
)
from middlewared.protocol.carp_table import State
from middlewared.protocol.sightings import Sightings
from middlewared.shell.journal import Journal
from middlewared.shell.vip_interface import VipInterface


class CarpGroup:
    """Carries out what its machine says.

    What the kernel refuses is in status, and is tried again whole at the next renewal: the machine goes on saying what
    should be, so nothing is lost by one refusal.
    """

    def __init__(
        self, machine: CarpMachine, interface: VipInterface, wires: Wires, journal: Journal, sightings: Sightings
    ) -> None:
        self.machine = machine
        self.vip: Vip = interface.vip
        self._interface = interface
        self._wires = wires
        self._journal = journal
        self._sightings = sightings
        self._condition: Condition | None = None
        self._told: hub.CarpState | None = None
        self._fault = ""
        self._source = ""

    def prepare(self) -> None:
        """Make the macvlan ready, so that taking the VIP is fast; adopt the one of an earlier process."""
        self._try(self._interface.prepare)

    @property
    def holds(self) -> bool:
        return self.machine.state is State.MASTER

    def receive(self, message: Message, now: float) -> bool:
        """Hand the machine a message and obey. True when fenced must be asked anew (the machine noticed a stall)."""
        self._told = None
        actions = self.machine.receive(message, now)
        if not actions:
            return False
        for action in actions:
            self._perform(action, now)
        return any(isinstance(action, Report) and action.stalled for action in actions)

    def tell_condition(self, node: Node, *, demoted: bool, now: float) -> bool:
        """How this controller is, for what the group's adverts say. True as from `receive`."""
        condition = Condition(node=node, demoted=demoted, refused=bool(self._fault))
        if condition == self._condition:
            return False
        self._condition = condition
        return self.receive(condition, now)

    def sighted(self, who: str, protocol: str, now: float, times: int = 1) -> None:
        """Somebody else advertises this group's VHID."""
        vip, how = self.vip, f"{protocol} adverts"
        self._sightings.saw("DUPLICATE_VHID", vip.interface, vip.vhid, who, how, now, address=vip.address, times=times)

    def remove(self) -> None:
        """The group is no more: its macvlan goes, too."""
        self._try(self._interface.remove)

    def status(self) -> hub.CarpState:
        """Made anew only after something was received: there may be many groups, and each turn asks all of them."""
        if self._told is None:
            state = self.machine.status()
            why = f"{state.why}; {self._fault}" if self._fault else state.why
            self._told = msgspec.structs.replace(state, interface=self.vip.interface, why=why)
        return self._told

    def _perform(self, action: Action, now: float) -> None:
        match action:
            case SendAdvert(data=data):
                self._wires.send(self.vip.interface, ethernet.advert(self.vip.vhid, self._advert_source(), data))
            case RenewVip(lease_s=lease_s):
                extend = self._interface.take if self._fault else self._interface.renew
                self._try(lambda: extend(lease_s))
            case TakeVip(lease_s=lease_s):
                self._source = ""
                self._try(lambda: self._interface.take(lease_s))
            case DropVip():
                self._try(self._interface.drop)
            case Announce():
                self._wires.send(self.vip.interface, ethernet.announcement(self.vip.vhid, self.vip.address))
            case Probe():
                mac = self._wires.mac(self.vip.interface)
                if mac is not None:
                    self._wires.send(self.vip.interface, ethernet.probe(mac, self.vip.address))
            case Sighted(who=who, protocol=protocol, times=times):
                self.sighted(who, protocol, now, times)
            case Report(why=why):
                self._journal.note("carp", vhid=self.vip.vhid, state=self.machine.state.value, why=why)

    def _advert_source(self) -> str:
        if self._source in ("", self.vip.address):
            self._source = self._wires.source(self.vip.interface, self.vip.address)
        return self._source

    def _try(self, deed: Callable[[], None]) -> None:
        self._told = None
        try:
            deed()
        except PortFailed as e:
            if str(e) != self._fault:
                self._journal.note("refused", vhid=self.vip.vhid, why=e)
            self._fault = str(e)
        else:
            self._fault = ""
