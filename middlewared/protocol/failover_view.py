"""What one controller knows at one instant, and what follows from it: the facts that the rules of failover.py ask for.

A fact older than its window is unknown, and unknown is not dead. Times are this controller's CLOCK_BOOTTIME in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec

from middlewared.kernel.facts import Node, other
from middlewared.protocol.hub import Heard, PeerWord, Settings, VoterState
from middlewared.protocol.quorum import majority

MOVES = 3
"""So often the term may go from one controller to the other within `moves_s` before only a death moves it again."""


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """How long is long; see middlewared.config.Timing.

    resign_s: how long a peer may take to take what was given up. failed_s: how long a promotion that failed holds its
    controller back. moves_s: over which the moves of the term are counted. lagg_s: how long a lost aggregate is waited
    for at least, because its members come and go one by one. overtaken_s: how long a disk may be in a later term than
    the owner's, since a peer that loses a ballot frees what it was granted.
    """

    settle_s: float = 20.0
    lease_s: float = 1.0
    interlink_dead_s: float = 0.15
    advert_dead_s: float = 0.3
    disk_dead_s: float = 0.25
    held_s: float = 1.25
    resign_s: float = 5.0
    failed_s: float = 60.0
    moves_s: float = 600.0
    lagg_s: float = 2.0
    overtaken_s: float = 0.5


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What one controller knows at one instant.

    booted_at: when fenced first ran since this controller booted. settled: boot was once over.
    owns, term: this controller won `term` and was not told otherwise. confirmed_at: when a majority of the disks last
    said so. owned_term: the term that this controller owned in this boot and did not give up, 0: none. begins:
    middlewared asked for a new term. forced: an operator asked to claim. resigned_at: when the term was given up.
    voters: the shared disks as last seen; none: there are none.
    heard, heard_since: what carpd reports, and since when it does so without a break; None: it does not.
    disk_at, disk_since: when the owner's heartbeat on the disks last changed, and since when a majority of them can be
    read without a break; None: they cannot. disks_asked: every disk answered, or failed to, since fenced runs without a
    break; before that nothing is known of them.
    peer_idle_since, peer_sees_since: since when the peer says, heartbeat by heartbeat, that it is not the owner, and
    that it sees its disks.
    imported: the pools that middlewared has imported here. fault: why a pool that is imported here cannot be written,
    or why this controller does not see the disks of one; None while all is well, or nobody says.
    failed_at: when a promotion last failed here. ended_often: this controller ended itself three times in ten minutes.
    moves: when the term went from one controller to the other, as seen in this boot; oldest first.
    overtaken_since: since when a shared disk, voter or not, has been in a later term than the one that is owned,
    or in that one and the peer's.
    """

    node: Node
    windows: Windows
    settings: Settings | None
    booted_at: float
    settled: bool
    owns: bool
    term: int
    confirmed_at: float | None
    owned_term: int
    begins: bool
    forced: bool
    resigned_at: float | None
    voters: tuple[VoterState, ...]
    heard: Heard | None
    heard_since: float | None
    disk_at: float | None
    disk_since: float | None
    peer_idle_since: float | None
    peer_sees_since: float | None = None
    disks_asked: bool = True
    imported: tuple[str, ...] = ()
    fault: str | None = None
    failed_at: float | None = None
    ended_often: bool = False
    moves: tuple[float, ...] = ()
    overtaken_since: float | None = None


def shown(view: View) -> msgspec.Raw:
    """The view as JSON, without the cluster's key."""
    settings = view.settings
    if settings is not None:
        view = msgspec.structs.replace(view, settings=msgspec.structs.replace(settings, key=b""))
    return msgspec.Raw(msgspec.json.encode(view))


def seen(shown: bytes) -> View:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(shown, type=View)


class Situation:
    """What follows from a view at `now`; each rule asks for what it needs."""

    def __init__(self, view: View, now: float) -> None:
        self.view = view
        self.now = now
        self.me = view.node
        self.peer = other(view.node)

    # The disks

    @cached_property
    def reachable(self) -> tuple[VoterState, ...]:
        return tuple(voter for voter in self.view.voters if voter.reachable)

    def majority(self, some: Sequence[VoterState]) -> bool:
        return majority(some, self.view.voters)

    @cached_property
    def readable(self) -> bool:
        return self.majority(self.reachable)

    def held_by(self, node: Node) -> bool:
        """Whether a majority of the disks is held by `node`, as far as they can be read now."""
        return self.majority([voter for voter in self.reachable if voter.owner == node])

    @cached_property
    def overtaken(self) -> bool:
        """Whether a disk has been in a later term than ours for longer than a ballot that the peer loses takes."""
        since = self.view.overtaken_since
        return since is not None and self.now - since >= self.view.windows.overtaken_s

    @cached_property
    def mine(self) -> tuple[VoterState, ...]:
        """Those that hold our term."""
        return tuple(v for v in self.reachable if v.owner == self.me and v.term == self.view.term)

    # The peer

    @cached_property
    def word(self) -> PeerWord | None:
        """What the peer says of itself, while its heartbeats are fresh."""
        heard = self.view.heard
        if heard is None or not self._fresh(heard.interlink_at, self.view.windows.interlink_dead_s):
            return None
        return heard.peer

    @cached_property
    def signs(self) -> tuple[str, ...]:
        """The channels by which the peer was heard a moment ago."""
        heard, windows = self.view.heard, self.view.windows
        channels = (
            ("interlink", heard.interlink_at if heard else None, windows.interlink_dead_s),
            ("adverts", heard.advert_at if heard else None, windows.advert_dead_s),
            ("disks", self.view.disk_at, windows.disk_dead_s),
        )
        return tuple(name for name, at, dead_s in channels if self._fresh(at, dead_s))

    @cached_property
    def owner_signs(self) -> tuple[str, ...]:
        """By what the peer shows that it owns; a word that says otherwise is newer than adverts and disks can be."""
        said = ("its heartbeat says so",) if self.word is not None and self.word.owner else ()
        shown = {"adverts": "its adverts are heard", "disks": "its heartbeat on the disks goes on"}
        return said + tuple(shown[sign] for sign in self.signs if sign in shown)

    @cached_property
    def peer_took(self) -> str | None:
        """Why the term is the peer's, as far as this controller sees."""
        if self.held_by(self.peer):
            return f"{self.peer} holds a majority of the disks"
        return f"{self.peer} owns: {', '.join(self.owner_signs)}" if self.owner_signs else None

    @cached_property
    def last_signs(self) -> tuple[float, ...] | None:
        """Per channel, the time from which silence counts; None: a channel is not watched, so nothing is known."""
        view = self.view
        if view.heard is None or view.heard_since is None or view.disk_since is None:
            return None
        since = max(view.heard_since, view.heard.since)
        signs = ((view.heard.interlink_at, since), (view.heard.advert_at, since), (view.disk_at, view.disk_since))
        return tuple(start if at is None else max(at, start) for at, start in signs)

    @cached_property
    def gone(self) -> bool:
        windows = self.view.windows
        dead_s = (windows.interlink_dead_s, windows.advert_dead_s, windows.disk_dead_s)
        signs = self.last_signs
        return signs is not None and all(self.now - at > dead for at, dead in zip(signs, dead_s, strict=True))

    @cached_property
    def silent_s(self) -> float:
        """Since the last sign on any channel."""
        return self.now - max(self.last_signs or (self.now,))

    @cached_property
    def settled(self) -> bool:
        view = self.view
        heard = self.word is not None or bool(self.signs)
        return view.settled or heard or self.now - view.booted_at >= view.windows.settle_s

    @cached_property
    def peer_able(self) -> bool:
        """Whether the peer says that nothing but this controller keeps it from owning."""
        word = self.word
        return word is not None and word.disks_ok and not word.failed and not word.held

    @cached_property
    def peer_ready(self) -> bool:
        """Whether it would take at once what this controller gave up.

        Without carrier on the interlink its last word is old: it may have lost its networks, or its power, with ours.
        """
        word, heard = self.word, self.view.heard
        if word is None or heard is None or not self.peer_able:
            return False
        return heard.carrier and word.hears_us and word.settled

    # This controller

    @cached_property
    def links_up(self) -> bool:
        return self.view.heard is not None and self.view.heard.links_up

    @cached_property
    def disks_ok(self) -> bool:
        """Whether no majority of the disks is known to be out of reach, and no pool to lack its own."""
        lost = bool(self.view.voters) and self.view.disks_asked and not self.readable
        return not lost and self.view.fault is None

    @cached_property
    def failed(self) -> bool:
        """A promotion failed here lately."""
        return self.view.failed_at is not None and self.now - self.view.failed_at < self.view.windows.failed_s

    @cached_property
    def failing(self) -> bool:
        """It failed, and the peer may do better: it is not gone and did not fail as well."""
        if not self.failed or self.view.failed_at is None or self.gone:
            return False
        both = self.word is not None and self.word.failed
        return not both or self.now - self.view.failed_at < self.view.windows.resign_s

    @cached_property
    def able(self) -> bool:
        return self.disks_ok and not self.failing and not self.view.ended_often

    @cached_property
    def flapping(self) -> bool:
        """The term moved too often, as this controller counted."""
        return sum(self.now - at < self.view.windows.moves_s for at in self.view.moves) >= MOVES

    @cached_property
    def timeout_s(self) -> float:
        """How long a network must be lost before the term is given up for it."""
        settings = self.view.settings
        if settings is None:
            return 0.0
        return max(settings.timeout_s, self.view.windows.lagg_s if settings.lagg else 0.0)

    @cached_property
    def preferred(self) -> bool:
        """Whether this controller claims when both are there and none owns."""
        if self.word is not None:
            mine, theirs = (self.able, self.links_up), (self.peer_able, self.word.links_up)
            if mine != theirs:
                return mine > theirs
        return self.view.settings is not None and self.view.settings.default_node == self.me

    def age(self, at: float | None) -> float | None:
        """In seconds, to the millisecond."""
        return None if at is None else round(self.now - at, 3)

    def _fresh(self, at: float | None, dead_s: float) -> bool:
        return at is not None and self.now - at <= dead_s
