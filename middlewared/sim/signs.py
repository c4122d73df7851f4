"""One controller's carpd: heartbeats as words, and the virtual address by the production machine (carp.py).

A heartbeat each HEARTBEAT_S over the interlink; adverts over the LAN, in real CARP frames, as the machine sends them.
The rules of heartbeats have tests of their own; here only what fenced learns from them is of interest.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from middlewared.config import Timing
from middlewared.protocol import hub
from middlewared.sim.carp import Carp, Kernel, Word
from middlewared.sim.hub import RETRY_S, Client, HubServer
from middlewared.sim.network import Path
from middlewared.sim.timeline import Clock, Timeline

HEARTBEAT_S = 0.1


class Signs:
    """One controller's carpd. frozen: it does not run at this moment; dead: for good. told: of each advert."""

    def __init__(
        self,
        timeline: Timeline,
        clock: Clock,
        boot_id: str,
        server: Callable[[], HubServer | None],
        beats: Path,
        adverts: Path,
        lan: Path,
        peer: Callable[[], Signs | None],
        timing: Timing,
        kernel: Kernel,
        told: Callable[[Word, bytes], None],
    ) -> None:
        self._timeline = timeline
        self._clock = clock
        self._boot_id = boot_id
        self._server_now = server
        self._beats = beats
        self._adverts = adverts
        self._lan = lan
        self._peer = peer
        self._told = told
        self.dead = self.frozen = False
        self.carrier = True
        self._client: Client | None = None
        self._server: HubServer | None = None
        self._standing: hub.Standing | None = None
        self._carp = Carp(timing, clock, kernel, self._advertise, self._ask_anew)
        self._heard = hub.Heard(
            since=clock.boottime(),
            interlink_at=None,
            advert_at=None,
            carrier=True,
            carrier_since=clock.boottime(),
            links_up=True,
            links_since=clock.boottime(),
            peer=None,
        )

    def run(self) -> None:
        """Speak, and again and again."""
        if self.dead:
            return
        self._timeline.after(HEARTBEAT_S, self.run)
        if self.frozen:
            return
        if self._client is None:
            self._connect()
        self._carp.tick()
        self._speak()
        self._report()

    def hear_beat(self, word: hub.PeerWord) -> None:
        if not (self.dead or self.frozen):
            self._heard = msgspec.structs.replace(self._heard, interlink_at=self._clock.boottime(), peer=word)
            self._report()

    def hear_advert(self, data: bytes, source: str) -> None:
        if not (self.dead or self.frozen):
            before = self._carp.heard_at
            self._carp.heard(data, source)
            if self._carp.heard_at != before:
                self._told("believes", data)
            self._heard = msgspec.structs.replace(self._heard, advert_at=self._carp.heard_at)

    def leave(self) -> None:
        self.dead = True
        if self._client is not None and self._server is not None:
            self._server.leave(self._client)

    def _connect(self) -> None:
        server = self._server_now()
        client = Client("carpd", self._take, self._lost)
        if server is not None and server.connect(client, hub.Hello(who="carpd", pid=2)):
            self._client, self._server = client, server
            self._carp.connected()

    def _take(self, message: hub.FromFenced) -> None:
        if isinstance(message, hub.Standing) and not (self.dead or self.frozen):
            self._standing = message
            self._carp.said(message)

    def _ask_anew(self) -> None:
        """After a stall: whatever comes on a new connection was said after it."""
        self._standing = None
        if self._client is not None and self._server is not None:
            self._server.leave(self._client)
            self._client = self._server = None

    def _lost(self) -> None:
        self._carp.lost()
        self._client = self._server = None
        self._timeline.after(RETRY_S, self._forget)

    def _forget(self) -> None:
        if self._client is None:
            self._standing = None

    def _speak(self) -> None:
        peer, standing = self._peer(), self._standing
        if peer is None:
            return
        owner = standing is not None and standing.role == "OWNER"
        word = hub.PeerWord(
            boot_id=self._boot_id,
            term=standing.term if standing is not None else 0,
            owner=owner,
            links_up=self._heard.links_up,
            hears_us=True,
            settled=standing is not None and standing.settled,
            resigned=standing is not None and standing.resigned,
            disks_ok=standing is None or standing.disks_ok,
            failed=standing is not None and standing.failed is not None,
            held=standing is not None and standing.held,
            flapping=standing is not None and standing.flapping,
            voting=standing.voting if standing is not None else 0,
        )
        self._beats.carry(self._timeline, lambda: peer.hear_beat(word))

    def _advertise(self, data: bytes) -> None:
        self._told("sends", data)
        peer = self._peer()
        if peer is not None:
            self._adverts.carry(self._timeline, lambda: peer.hear_advert(data, self._boot_id))

    def _report(self) -> None:
        if self.carrier != self._heard.carrier:
            now = self._clock.boottime()
            self._heard = msgspec.structs.replace(self._heard, carrier=self.carrier, carrier_since=now)
        if self._lan.cut == self._heard.links_up:
            now = self._clock.boottime()
            self._heard = msgspec.structs.replace(self._heard, links_up=not self._lan.cut, links_since=now)
        if self._client is not None and self._server is not None:
            self._server.take(self._client, self._heard)
