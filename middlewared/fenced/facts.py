"""What fenced knows, gathered as it comes in, and made into the view that is decided upon.

No I/O and no clock: every time is handed in. The one subtle thing here is sleep. A process that was stopped finds old
times when it wakes, and they look like a silent peer; so every gap in this process's own steps, and every gap in what
carpd reports, makes the ages count anew.
"""

from __future__ import annotations

from middlewared.config import BootFile, Timing
from middlewared.fenced.disks import Disks
from middlewared.fenced.ended import Ends
from middlewared.fenced.memory import Memory
from middlewared.fenced.serving import Serving
from middlewared.kernel.facts import PairRecord, other
from middlewared.protocol.failover import Decision
from middlewared.protocol.failover_view import MOVES, View, Windows
from middlewared.protocol.hub import Heard, Lost, PeerWord, Role, Settings

STALL_S = 0.1
"""A gap between two steps from which on this process was not running; it steps each 20 ms."""

CARPD_GAP_S = 0.25
"""carpd reports at least each 100 ms."""


def windows_of(timing: Timing) -> Windows:
    return Windows(
        settle_s=timing.settle_s,
        lease_s=timing.lease_s,
        interlink_dead_s=timing.heartbeat_dead_ms / 1000,
        advert_dead_s=timing.advert_dead_count * timing.advert_ms / 1000,
        disk_dead_s=timing.disk_dead_ms / 1000,
        held_s=timing.held_s,
    )


class Facts:
    """Everything that one fenced knows beside what the disks say."""

    def __init__(self, boot: BootFile, memory: Memory, ends: Ends, now: float) -> None:
        self.node = boot.node
        self.windows = windows_of(boot.timing)
        self.boot_id = memory.boot_id
        self.booted_at = memory.booted_at
        self.settled = memory.settled
        self.settings: Settings | None = memory.settings
        self.role: Role = "WAITING"
        self.role_since = now
        self.owns = False
        self.term = 0
        self.owned_term = memory.owned_term
        self.record: PairRecord | None = None
        self.begins = False
        self.lost: Lost | None = None
        self.forced = False
        self.resigned_at: float | None = None
        self.serving = Serving(
            serves=memory.serves, pools=memory.pools, failed=memory.failed, failed_at=memory.failed_at
        )
        self.ended = ends.before(memory.boot_id)
        self.ended_often = ends.often
        self.voting = 0
        self._overtaken_since: float | None = None
        self._moves = memory.moves
        self._last_owner = memory.last_owner
        self.awake_since = now
        self._stepped_at = now
        self._heard: Heard | None = None
        self._heard_at = 0.0
        self._heard_since: float | None = None
        self._peer_idle_since: float | None = None
        self._peer_sees_since: float | None = None

    def disown(self, decision: Decision, now: float) -> None:
        """Own no more. That it did is noted, since what is said may wait until the decision is another one."""
        if self.owns:
            self.lost = Lost(term=self.term, at=now, rule=decision.rule, why=decision.why)
        self.owns = self.begins = False

    def step(self, now: float) -> bool:
        """Note that this process runs at `now`. True: it did not run for a while before."""
        slept = now - self._stepped_at > STALL_S
        self._stepped_at = now
        if slept:
            self.awake_since = now
            self.deafen()
        self._count_moves(now)
        return slept

    def _count_moves(self, now: float) -> None:
        """Note when the term is with another controller than it was; both controllers see each move."""
        word = self.word(now)
        owner = self.node if self.owns else other(self.node) if word is not None and word.owner else None
        if owner is None or owner == self._last_owner:
            return
        if self._last_owner is not None:
            self._moves = (*self._moves, now)[-MOVES:]
        self._last_owner = owner

    def configure(self, settings: Settings, now: float) -> None:
        """middlewared's statement. A pairing is a boot: the other has as long as then to be heard."""
        if self.settings is not None and settings.paired and not self.settings.paired:
            self.booted_at, self.settled = now, False
        self.settings = settings

    def hear(self, heard: Heard, now: float) -> None:
        """carpd's report."""
        if self._heard_since is None or now - self._heard_at > CARPD_GAP_S:
            self._heard_since = now
        self._heard, self._heard_at = heard, now
        word = self.word(now)
        if word is None or word.owner or self.owns:
            self._peer_idle_since = None
        elif self._peer_idle_since is None:
            self._peer_idle_since = now
        if word is None or not word.disks_ok:
            self._peer_sees_since = None
        elif self._peer_sees_since is None:
            self._peer_sees_since = now

    def deafen(self) -> None:
        """carpd is gone: nobody listens."""
        self._heard_since = None
        self._peer_idle_since = None
        self._peer_sees_since = None

    def word(self, now: float) -> PeerWord | None:
        """What the peer says of itself, while that is fresh."""
        heard = self._heard
        if heard is None or heard.interlink_at is None or now - heard.interlink_at > self.windows.interlink_dead_s:
            return None
        return heard.peer

    @property
    def interlink_at(self) -> float | None:
        return None if self._heard is None else self._heard.interlink_at

    @property
    def advert_at(self) -> float | None:
        return None if self._heard is None else self._heard.advert_at

    def last_sign_at(self, disks: Disks) -> float | None:
        """The last sign of the peer on any channel."""
        signs = (self.interlink_at, self.advert_at, disks.beat_at())
        return max((at for at in signs if at is not None), default=None)

    def known_term(self, disks: Disks) -> int:
        """The highest term that this controller ever heard of; a new one must be above it."""
        single = self.settings.single_term if self.settings is not None else 0
        peer = self._heard.peer.term if self._heard is not None and self._heard.peer is not None else 0
        return max(self.term, self.owned_term, single, peer, disks.highest_term())

    def memory(self) -> Memory:
        return Memory(
            boot_id=self.boot_id,
            booted_at=self.booted_at,
            owned_term=self.owned_term,
            settled=self.settled,
            settings=self.settings,
            serves=self.serving.serves,
            pools=self.serving.pools.imported,
            failed=self.serving.failed,
            failed_at=self.serving.failed_at,
            moves=self._moves,
            last_owner=self._last_owner,
        )

    def view(self, disks: Disks, now: float) -> View:
        watched = now - self._heard_at <= CARPD_GAP_S
        return View(
            node=self.node,
            windows=self.windows,
            settings=self.settings,
            booted_at=self.booted_at,
            settled=self.settled,
            owns=self.owns,
            term=self.term,
            confirmed_at=disks.confirmed_at(),
            owned_term=self.owned_term,
            begins=self.begins,
            forced=self.forced,
            resigned_at=self.resigned_at,
            voters=disks.states(),
            heard=self._heard,
            heard_since=self._heard_since if watched else None,
            disk_at=None if self.owns else disks.beat_at(),
            disk_since=disks.readable_since(),
            peer_idle_since=self._peer_idle_since if watched else None,
            peer_sees_since=self._peer_sees_since if watched else None,
            disks_asked=disks.all_asked_since(self.awake_since),
            imported=self.serving.pools.imported,
            fault=self.serving.pools.fault,
            failed_at=self.serving.failed_at,
            ended_often=self.ended_often,
            moves=self._moves,
            overtaken_since=self._overtaken(disks, now),
        )

    def _overtaken(self, disks: Disks, now: float) -> float | None:
        states = (*disks.states(), *disks.others()) if self.owns else ()
        # In our own term a disk can be the peer's: of two claims at once one won, and the loser lost its power.
        ahead = any(s.reachable and (s.term, s.owner == other(self.node)) > (self.term, False) for s in states)
        if not ahead:
            self._overtaken_since = None
        elif self._overtaken_since is None:
            self._overtaken_since = now
        return self._overtaken_since
