"""What one controller knows at one instant, and what follows from it: the facts that the rules of failover.py ask for.

A fact older than its window is unknown, and unknown is not dead. Times are this controller's CLOCK_BOOTTIME in seconds.
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from middlewared.kernel.facts import Node, other
from middlewared.protocol.hub import Heard, PeerWord, Settings, VoterState


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """How long is long; see middlewared.config.Timing. resign_s: how long a peer may take to take what was given up."""

    settle_s: float = 20.0
    lease_s: float = 1.0
    interlink_dead_s: float = 0.15
    advert_dead_s: float = 0.3
    disk_dead_s: float = 0.25
    held_s: float = 1.25
    resign_s: float = 5.0


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What one controller knows at one instant.

    booted_at: when fenced first ran since this controller booted. settled: boot was once over.
    owns, term: this controller won `term` and was not told otherwise. confirmed_at: when a majority of the disks last
    said so. owned_term: the term that this controller owned in this boot and did not give up, 0: none. begins:
    middlewared asked for a new term. forced: an operator asked to claim. resigned_at: when the term was given up.
    voters: the shared disks as last seen; none: there are none.
    heard, heard_since: what carpd reports, and since when it does so without a break; None: it does not.
    disk_at, disk_since: when the owner's heartbeat on the disks last changed, and since when a majority of them can be
    read without a break; None: they cannot.
    peer_idle_since: since when the peer says, heartbeat by heartbeat, that it is not the owner.
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

    def majority(self, count: int) -> bool:
        return count > len(self.view.voters) // 2

    def held_by(self, node: Node) -> bool:
        """Whether a majority of the disks is held by `node`, as far as they can be read now."""
        return self.majority(sum(voter.owner == node for voter in self.reachable))

    @cached_property
    def mine(self) -> int:
        return sum(voter.owner == self.me and voter.term == self.view.term for voter in self.reachable)

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

    # This controller

    @cached_property
    def links_up(self) -> bool:
        return self.view.heard is not None and self.view.heard.links_up

    @cached_property
    def preferred(self) -> bool:
        """Whether this controller claims when both are there and none owns."""
        if self.word is not None and self.word.links_up != self.links_up:
            return self.links_up
        return self.view.settings is not None and self.view.settings.default_node == self.me

    def _fresh(self, at: float | None, dead_s: float) -> bool:
        return at is not None and self.now - at <= dead_s
