"""What fenced is told: Heard and Carp, each time as a whole, and only when there is something to say.

Heard goes out at once when a sign of the peer was renewed or a link changed, and at least each 100 ms, because fenced
takes a carpd that says nothing for one that is not there. Carp goes out at once when a group changes its state; counts
of refused frames, which somebody on the LAN can drive, wait for the next 100 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from middlewared.carpd.peer import Peer
from middlewared.config import BootFile
from middlewared.kernel.facts import FailoverGroup, LinkState, Sighting
from middlewared.protocol import failover_groups, hub

AT_LEAST_EACH_S = 0.1


class Carriers(Protocol):
    def has_carrier(self, name: str) -> bool: ...


class Reports:
    """send: to fenced; False when it is not there."""

    def __init__(self, send: Callable[[hub.ToFenced], bool], boot: BootFile, scheduling: str, now: float) -> None:
        self._send = send
        self._scheduling = scheduling
        self._interlink = boot.interlink.interface if boot.interlink else None
        self._groups: tuple[FailoverGroup, ...] = ()
        self._due = now
        self._heard = hub.Heard(
            since=now,
            interlink_at=None,
            advert_at=None,
            carrier=False,
            carrier_since=now,
            links_up=True,
            links_since=now,
            peer=None,
        )
        self._told_heard: hub.Heard | None = None
        self._told_carp: hub.Carp | None = None

    @property
    def links_up(self) -> bool:
        return self._heard.links_up

    def watch(self, groups: tuple[FailoverGroup, ...]) -> None:
        """The failover groups that count."""
        self._groups = groups

    def forget(self) -> None:
        """A new connection: fenced knows nothing yet."""
        self._told_heard = self._told_carp = None

    def deadline(self) -> float:
        return self._due

    def state(
        self,
        now: float,
        links: Carriers,
        peer: Peer,
        advert_at: float | None,
        vips: tuple[hub.CarpState, ...],
        sightings: tuple[Sighting, ...] = (),
    ) -> None:
        """Say what is new at this moment."""
        regular = now >= self._due
        if regular:
            self._due = now + AT_LEAST_EACH_S
        self._heard = self._look(now, links, peer, advert_at)
        if (regular or self._heard != self._told_heard) and self._send(self._heard):
            self._told_heard = self._heard
        carp = hub.Carp(vips=vips, scheduling=self._scheduling, sightings=sightings)
        # Equal ones are mostly the same objects, which is found out at once, however many there are.
        if carp != self._told_carp and (regular or _shape(carp) != _shape(self._told_carp)) and self._send(carp):
            self._told_carp = carp

    def _look(self, now: float, links: Carriers, peer: Peer, advert_at: float | None) -> hub.Heard:
        before = self._heard
        carrier = self._interlink is not None and links.has_carrier(self._interlink)
        links_up = not failover_groups.lost(self._groups, links.has_carrier)
        return msgspec.structs.replace(
            before,
            interlink_at=peer.heard_at or before.interlink_at,
            advert_at=advert_at or before.advert_at,
            carrier=carrier,
            carrier_since=before.carrier_since if carrier == before.carrier else now,
            links_up=links_up,
            links_since=before.links_since if links_up == before.links_up else now,
            peer=peer.word,
            links=self._link_states(now, links),
        )

    def _link_states(self, now: float, links: Carriers) -> tuple[LinkState, ...]:
        before = {link.name: link for link in self._heard.links}
        found = []
        for name in sorted({name for group in self._groups for name in group.interfaces}):
            up, known = links.has_carrier(name), before.get(name)
            since = known.since if known is not None and known.up == up else now
            found.append(LinkState(name=name, up=up, since=since))
        return tuple(found)


def _shape(carp: hub.Carp | None) -> object:
    """What of it is worth a message at once."""
    return carp and tuple((vip.vhid, vip.address, vip.state, vip.since, vip.why) for vip in carp.vips)
