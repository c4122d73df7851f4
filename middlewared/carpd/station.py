"""carpd between our two controllers: what comes in, who is told, what goes out.

    fenced     Settings -> which groups there are     Standing -> Warrant -> Grant or Revoke to every group
    LAN        adverts -> the group of their VHID     what neighbours say of a VIP -> its group
               whoever of them is no part of this pair -> Sightings
    interlink  heartbeats -> HeartbeatMachine -> what the peer says
    rtnetlink  carrier of the interlink and of the VIPs' interfaces
    clock      each group's duties, our heartbeat, the silence of fenced

and to fenced: Heard, each time that one of the signs of the peer's life is renewed and at least each 100 ms; Carp, when
a group changes. What this file holds is who hands what to whom; every decision is in protocol/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address

from middlewared.carpd.group import CarpGroup
from middlewared.carpd.interlink import Interlink
from middlewared.carpd.peer import Peer
from middlewared.carpd.report import Reports
from middlewared.carpd.turns import Turns
from middlewared.carpd.wires import Heard, Wires
from middlewared.config import BootFile
from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Vip
from middlewared.ports import Clock
from middlewared.protocol import failover_groups, hub
from middlewared.protocol.carp import CarpMachine
from middlewared.protocol.carp_election import PairedElection
from middlewared.protocol.carp_messages import Contended, Group, Message, Packet, Stalled, Tick, Withdraw
from middlewared.protocol.carp_packet import router_of, vhid_of
from middlewared.protocol.ethernet import virtual_mac
from middlewared.protocol.keys import carp_key
from middlewared.protocol.neighbours import Claim
from middlewared.protocol.sightings import Sightings
from middlewared.protocol.warrant import Warrant
from middlewared.shell.hub_client import HubClient
from middlewared.shell.journal import Journal
from middlewared.shell.links import Links
from middlewared.shell.netlink import Netlink
from middlewared.shell.vip_interface import VipInterface, tidy

FENCED_PATIENCE_S = 1.0
_TIDY_AGAIN_S, _TIDY_EACH_S = 0.005, 0.25
"""How long between two things that are left to do with the macvlans, and between two looks whether there are any."""


class Station:
    """All of carpd in paired mode. scheduling: what real-time treatment was got, for status."""

    def __init__(self, boot: BootFile, clock: Clock, scheduling: str) -> None:
        now = clock.boottime()
        self._boot = boot
        self._journal = Journal("carpd")
        self._groups: dict[int, CarpGroup] = {}
        self._sightings = Sightings()
        self._settings: hub.Settings | None = None
        self._warrant = Warrant(FENCED_PATIENCE_S, now)
        self._tidy_at: float | None = None
        """None: it is not known yet which groups there are."""
        self._netlink = Netlink()
        self._links = Links(self._netlink, self._links_changed)
        self._turns = Turns(
            clock, boot.timing.stall_s, on_stall=self._stood_still, on_deadline=self._tick, after=self._after
        )
        self._wires = Wires(self._links, self._journal, self._wire_readable)
        self._interlink = (
            Interlink(boot.interlink, self._journal, lambda: self._turns.take(self._interlink_readable))
            if boot.interlink
            else None
        )
        self._interlink_index = self._index_of_interlink()
        self._peer = Peer(boot)
        self._hub = HubClient(
            boot.fenced_socket,
            "carpd",
            on_message=lambda message: self._turns.take(lambda now: self._fenced_says(message, now)),
            on_up=lambda: self._turns.take(self._fenced_is_there),
            on_down=lambda why: self._turns.take(lambda now: self._fenced_is_gone(why, now)),
        )
        self._reports = Reports(self._hub.send, boot, scheduling, now)

    async def run(self) -> None:
        """Serve until cancelled; then the VIPs are dropped, because nobody is left who would renew them."""
        asyncio.get_running_loop().add_reader(self._links.fileno(), lambda: self._turns.take(self._links_readable))
        self._turns.take(self._tick)
        try:
            await self._hub.run()
        except asyncio.CancelledError:
            self._turns.take(lambda now: self._tell_all(Withdraw(why="carpd ends"), now))
            while self._tidy():
                pass
            self._close()
            raise

    # fenced

    def _fenced_is_there(self, now: float) -> None:
        self._warrant.connected()
        self._reports.forget()

    def _fenced_is_gone(self, why: str, now: float) -> None:
        self._warrant.lost(now)
        self._journal.note("fenced", why=why)

    def _fenced_says(self, message: hub.FromFenced, now: float) -> None:
        match message:
            case hub.Settings():
                self._take_settings(message, now)
            case hub.Standing():
                self._peer.standing = message
                self._wires.look_anew()
                word = self._warrant.hear(message)
                if word is not None:
                    self._tell_all(word, now)
            case _:
                self._journal.note("ignored", message=type(message).__name__)

    def _take_settings(self, settings: hub.Settings, now: float) -> None:
        """Groups that stay as they are keep their state; the others are removed or begin."""
        before, self._settings = self._settings, settings
        if before is None or (before.cluster_id, before.key) != (settings.cluster_id, settings.key):
            self._peer.join(settings)
            self._remove_groups(set(self._groups), now)
        wanted = {vip.vhid: vip for vip in settings.vips}
        changed = {vhid for vhid, group in self._groups.items() if wanted.get(vhid) != group.vip}
        self._remove_groups(changed, now)
        self._tidy_at = now
        self._wires.want(settings.vips)
        self._sightings.forget(frozenset(vip.interface for vip in settings.vips))
        self._reports.watch(failover_groups.effective(settings.groups, settings.vips))
        for vhid in sorted(wanted.keys() - self._groups.keys()):
            self._begin_group(wanted[vhid], settings.key, now)

    def _begin_group(self, vip: Vip, key: bytes, now: float) -> None:
        timing = self._boot.timing
        settings = Group(
            vhid=vip.vhid,
            address=vip.address,
            key=carp_key(key),
            advbase=timing.advert_ms // 1000,
            advskew=min(255, round(timing.advert_ms % 1000 * 256 / 1000)),
            dead_count=timing.advert_dead_count,
            lease_s=timing.lease_s,
            renew_s=timing.renew_s,
            stall_s=timing.stall_s,
        )
        machine = CarpMachine(settings, PairedElection(), now)
        interface = VipInterface(self._netlink, self._links, vip)
        group = CarpGroup(machine, interface, self._wires, self._journal, self._sightings)
        self._groups[vip.vhid] = group
        self._tell_condition(now)
        group.prepare()
        if self._warrant.last is not None:
            group.receive(self._warrant.last, now)

    def _remove_groups(self, vhids: set[int], now: float) -> None:
        for vhid in vhids:
            self._groups.pop(vhid).receive(Withdraw(why="no longer configured"), now)

    # the LAN, the interlink, the links

    def _wire_readable(self, read: Callable[[], list[Heard]], interface: str) -> None:
        self._turns.take(lambda now: self._hear(read(), interface, now))

    def _hear(self, heard: list[Heard], interface: str, now: float) -> None:
        for each in heard:
            if isinstance(each, Claim):
                self._claim(each, interface, now)
                continue
            group = self._groups.get(vhid_of(each.data) or 0)
            if group is not None and group.vip.interface == interface:
                if group.receive(each, now):
                    self._ask_anew(now)
            else:
                self._foreign(each, interface, now)

    def _foreign(self, packet: Packet, interface: str, now: float) -> None:
        """An advert for no group of ours on this interface, or one that is too short for CARP."""
        router = router_of(packet.data, packet.ttl)
        if router is None:
            return
        vhid, protocol = router
        group = self._groups.get(vhid)
        if group is not None and group.vip.interface == interface:
            group.sighted(packet.source, protocol, now)
        else:
            self._sightings.saw("FOREIGN_VHID", interface, vhid, packet.source, f"{protocol} adverts", now)

    def _claim(self, claim: Claim, interface: str, now: float) -> None:
        """Somebody names a MAC for a VIP; only the group's own is right, whichever of the two controllers holds it."""
        for group in self._groups.values():
            vip = group.vip
            is_it = vip.interface == interface and ip_address(vip.address) == ip_address(claim.address)
            if not is_it or claim.mac == virtual_mac(vip.vhid):
                continue
            mac = claim.mac.hex(":")
            self._sightings.saw("VIP_CONFLICT", interface, vip.vhid, mac, claim.how, now, address=vip.address)
            self._tell(group, Contended(mac=mac, how=claim.how), now)

    def _interlink_readable(self, now: float) -> None:
        assert self._interlink is not None
        for datagram in self._interlink.read():
            self._peer.hear(datagram, now)

    def _links_readable(self, now: float) -> None:
        self._links.read()

    def _links_changed(self) -> None:
        self._wires.refresh()
        index = self._index_of_interlink()
        if index != self._interlink_index and self._interlink is not None:
            self._interlink.reopen()
        self._interlink_index = index

    def _index_of_interlink(self) -> int:
        link = self._links.by_name(self._boot.interlink.interface) if self._boot.interlink else None
        return link.index if link else 0

    # time

    def _tick(self, now: float) -> None:
        withdrawn = self._warrant.tick(now)
        if withdrawn is not None:
            self._peer.standing = None
            self._tell_all(withdrawn, now)
            self._tidy_at = now
        for group in self._groups.values():
            deadline = group.machine.deadline()
            if deadline is not None and now >= deadline:
                self._tell(group, Tick(), now)
        if self._interlink is not None:
            datagram = self._peer.speak(self._reports.links_up, now)
            if datagram is not None:
                self._interlink.send(datagram, now)
        if self._tidy_at is not None and now >= self._tidy_at:
            self._tidy_at = now + (_TIDY_AGAIN_S if self._tidy() else _TIDY_EACH_S)

    def _tidy(self) -> bool:
        """Do one thing of what is left to do with the macvlans, or find that there is nothing."""
        try:
            done = tidy(self._netlink, self._links, {vhid: group.holds for vhid, group in self._groups.items()})
        except PortFailed as e:
            self._journal.note("refused", why=e)
            return False
        return done is not None

    def _after(self, now: float) -> float:
        """End of a turn: fenced is told what changed. Returns when the next turn is due at the latest."""
        self._links.read()
        adverts = [group.machine.heard_at for group in self._groups.values()]
        self._reports.state(
            now,
            self._links,
            self._peer,
            max((at for at in adverts if at is not None), default=None),
            tuple(group.status() for _, group in sorted(self._groups.items())),
            self._sightings.current(now),
        )
        self._tell_condition(now)
        self._peer.hurry(self._reports.links_up)
        deadlines = [self._reports.deadline(), self._warrant.deadline()]
        deadlines += [group.machine.deadline() for group in self._groups.values()]
        if self._interlink is not None:
            deadlines.append(self._peer.deadline())
        deadlines.append(self._tidy_at)
        return min(deadline for deadline in deadlines if deadline is not None)

    def _tell_condition(self, now: float) -> None:
        disabled = self._settings is not None and self._settings.paired and self._settings.disabled
        for group in self._groups.values():
            if group.tell_condition(self._boot.node, demoted=disabled or not self._reports.links_up, now=now):
                self._ask_anew(now)

    # doubt

    def _stood_still(self, gap_s: float, now: float) -> None:
        self._journal.note("stalled", gap_s=f"{gap_s:.2f}")
        for group in self._groups.values():
            group.receive(Stalled(gap_s=gap_s), now)
        self._wires.discard()
        if self._interlink is not None:
            self._interlink.discard()
        self._ask_anew(now)

    def _ask_anew(self, now: float) -> None:
        """Only what fenced says on a connection that is made from now on was said after the stall."""
        self._warrant.forget(now)
        self._peer.standing = None
        self._hub.drop("this process stood still")

    def _tell(self, group: CarpGroup, message: Message, now: float) -> None:
        held = group.holds
        if group.receive(message, now):
            self._ask_anew(now)
        if held and not group.holds:
            self._tidy_at = now

    def _tell_all(self, message: Message, now: float) -> None:
        for group in self._groups.values():
            self._tell(group, message, now)

    def _close(self) -> None:
        self._turns.stop()
        asyncio.get_running_loop().remove_reader(self._links.fileno())
        self._wires.close()
        if self._interlink is not None:
            self._interlink.close()
        self._links.close()
        self._netlink.close()
