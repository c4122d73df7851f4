"""What the other controller says of itself on the interlink, and what it is told of this one."""

from __future__ import annotations

from middlewared.config import BootFile
from middlewared.protocol import hub
from middlewared.protocol.heartbeat import HeartbeatMachine, Seal, Word
from middlewared.protocol.keys import heartbeat_key
from middlewared.shell.boot_id import this_boot


class Peer:
    """standing: what fenced said last, None when it is not to be believed; then this controller claims nothing."""

    def __init__(self, boot: BootFile) -> None:
        self._boot = boot
        self._machine: HeartbeatMachine | None = None
        self._said: Word | None = None
        self.standing: hub.Standing | None = None
        self.word: hub.PeerWord | None = None

    def join(self, settings: hub.Settings) -> None:
        """The cluster is known (or another one): whatever was heard before is not of it."""
        self.word = None
        self._machine = None
        if settings.paired:
            timing = self._boot.timing
            self._machine = HeartbeatMachine(
                self._boot.node,
                this_boot(),
                Seal(settings.cluster_id, heartbeat_key(settings.key)),
                timing.heartbeat_ms / 1000,
                timing.heartbeat_dead_ms / 1000,
            )

    @property
    def heard_at(self) -> float | None:
        return self._machine.heard_at if self._machine else None

    def hear(self, datagram: bytes, now: float) -> None:
        if self._machine is not None:
            self.word = self._machine.receive(datagram, now) or self.word

    def speak(self, links_up: bool, now: float) -> bytes | None:
        """The heartbeat that is due now, if one is."""
        if self._machine is None or now < self._machine.deadline():
            return None
        self._said = self._word(links_up)
        return self._machine.speak(self._said, now)

    def _word(self, links_up: bool) -> Word:
        standing = self.standing
        return Word(
            term=standing.term if standing else 0,
            owner=standing is not None and standing.role == "OWNER",
            links_up=links_up,
            settled=standing is not None and standing.settled,
            resigned=standing is not None and standing.resigned,
            disks_ok=standing is None or standing.disks_ok,
            failed=standing is not None and standing.failed is not None,
            held=standing is not None and standing.held,
            flapping=standing is not None and standing.flapping,
            voting=standing.voting if standing else 0,
        )

    def hurry(self, links_up: bool) -> None:
        """What there is to say is another thing than was said last: the peer learns it now.

        With the next regular heartbeat a term that was given up would lie half an interval, while nobody has the VIPs.
        """
        if self._machine is not None and self._word(links_up) != self._said:
            self._machine.hurry()

    def deadline(self) -> float | None:
        return self._machine.deadline() if self._machine else None
