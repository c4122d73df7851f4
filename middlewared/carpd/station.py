"""carpd between our two controllers: what comes in, who is told, what goes out.

    fenced     Settings -> which groups there are     Standing -> Warrant -> Grant or Revoke to every group
    LAN        adverts -> the group of their VHID
    interlink  heartbeats -> HeartbeatMachine -> what the peer says
    rtnetlink  carrier of the interlink and of the VIPs' interfaces
    clock      each group's duties, our heartbeat, the silence of fenced

and to fenced: Heard, each time that one of the signs of the peer's life is renewed and at least each 100 ms; Carp, when
a group changes. What this file holds is who hands what to whom; every decision is in protocol/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from middlewared.carpd.group import CarpGroup
from middlewared.carpd.interlink import Interlink
from middlewared.carpd.peer import Peer
from middlewared.carpd.report import Reports
from middlewared.carpd.turns import Turns
from middlewared.carpd.wires import Wires
from middlewared.config import BootFile
from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Vip
from middlewared.ports import Clock
from middlewared.protocol import failover_groups, hub
from middlewared.protocol.carp import CarpMachine, Group, Message, Packet, Stalled, Tick, Withdraw
from middlewared.protocol.carp_election import PairedElection
from middlewared.protocol.carp_packet import vhid_of
from middlewared.protocol.keys import carp_key
from middlewared.protocol.warrant import Warrant
from middlewared.shell.hub_client import HubClient
from middlewared.shell.journal import Journal
from middlewared.shell.links import Links
from middlewared.shell.netlink import Netlink
from middlewared.shell.vip_interface import VipInterface, sweep

FENCED_PATIENCE_S = 1.0


class Station:
    """All of carpd in paired mode. scheduling: what real-time treatment was got, for status."""

    def __init__(self, boot: BootFile, clock: Clock, scheduling: str) -> None:
        now = clock.boottime()
        self._boot = boot
        self._journal = Journal("carpd")
        self._groups: dict[int, CarpGroup] = {}
        self._settings: hub.Settings | None = None
        self._warrant = Warrant(FENCED_PATIENCE_S, now)
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
        self._sweep(set(wanted))
        self._wires.want(frozenset(vip.interface for vip in settings.vips))
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
        group = CarpGroup(machine, interface, self._wires, self._journal)
        self._groups[vip.vhid] = group
        group.prepare()
        if self._warrant.last is not None:
            group.receive(self._warrant.last, now)

    def _remove_groups(self, vhids: set[int], now: float) -> None:
        for vhid in vhids:
            group = self._groups.pop(vhid)
            group.receive(Withdraw(why="no longer configured"), now)
            group.remove()

    def _sweep(self, keep: set[int]) -> None:
        """Remove what an earlier process left of groups that are not in `keep`."""
        try:
            for swept in sweep(self._netlink, self._links, keep):
                self._journal.note("swept", interface=swept)
        except PortFailed as e:
            self._journal.note("refused", why=e)

    # the LAN, the interlink, the links

    def _wire_readable(self, read: Callable[[], list[Packet]], interface: str) -> None:
        self._turns.take(lambda now: self._adverts(read(), interface, now))

    def _adverts(self, packets: list[Packet], interface: str, now: float) -> None:
        for packet in packets:
            group = self._groups.get(vhid_of(packet.data) or 0)
            if group is not None and group.vip.interface == interface:
                self._tell(group, packet, now)

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
            if self._settings is None:
                self._sweep(set())
        for group in self._groups.values():
            deadline = group.machine.deadline()
            if deadline is not None and now >= deadline:
                self._tell(group, Tick(), now)
        if self._interlink is not None:
            datagram = self._peer.speak(self._reports.links_up, now)
            if datagram is not None:
                self._interlink.send(datagram, now)

    def _after(self, now: float) -> float:
        """End of a turn: fenced is told what changed. Returns when the next turn is due at the latest."""
        adverts = [group.machine.heard_at for group in self._groups.values()]
        self._reports.state(
            now,
            self._links,
            self._peer,
            max((at for at in adverts if at is not None), default=None),
            tuple(group.status() for _, group in sorted(self._groups.items())),
        )
        deadlines = [self._reports.deadline(), self._warrant.deadline()]
        deadlines += [group.machine.deadline() for group in self._groups.values()]
        if self._interlink is not None:
            deadlines.append(self._peer.deadline())
        return min(deadline for deadline in deadlines if deadline is not None)

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
        if group.receive(message, now):
            self._ask_anew(now)

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
