"""The state of one client: who it is, what it may, what it wants to hear, and what it has not been sent yet.

Pure: ids are handed in, frames come ready to send, and the shell empties the outbox with `take`.

A client hears every change of a collection that it subscribed to, in order, or it is told that it does not. When more
than OUTBOX_LIMIT frames wait because it reads too slowly, its subscription ends with a `notify_unsubscribed` that says
so, and since which record to subscribe again, after the frames that still wait; nothing is skipped silently. Frames
that are replayed from the log wait for room instead (protocol/subscription.py).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence

from middlewared.kernel.errors import CallFailed
from middlewared.protocol import rpc
from middlewared.protocol.subscription import BEGINNING, OUTBOX_LIMIT, SPAN, Cursor, Subscription

SUBSCRIPTION_LIMIT = 100
CALLS_LIMIT = 20
FULL_ADMIN = "FULL_ADMIN"
"""The role that includes every other."""

DEFAULT_OPTIONS = {"legacy_jobs": True, "private_methods": False, "py_exceptions": False, "durability": False}


class Session:
    """One connection's client.

    origin: `unix:UID` or `ADDRESS:PORT`. local_root: it came over the unix socket as uid 0, and is root for good.
    new_id: makes an id that was never made before.
    """

    def __init__(self, *, id: str, origin: str, local_root: bool, new_id: Callable[[], str]) -> None:  # noqa: A002
        self.id = id
        self.origin = origin
        self.local_root = local_root
        self.options = dict(DEFAULT_OPTIONS)
        self.outbox: deque[bytes] = deque()
        self.on_room: Callable[[], None] | None = None
        """Called when the outbox has room for another span of a replay."""
        self.calls_waiting = 0
        """Calls that were started and wait for something; CALLS_LIMIT is the bound."""
        self._new_id = new_id
        self._subscriptions: dict[str, Subscription] = {}
        self.username: str | None = None
        self.roles: frozenset[str] = frozenset()
        self._become_nobody()

    def log_in(self, username: str, roles: frozenset[str]) -> None:
        """From now on this client is `username`."""
        self.username = username
        self.roles = roles

    def log_out(self) -> None:
        """Forget who it is, and end its subscriptions. The root of the unix socket is root again."""
        self._become_nobody()
        self._subscriptions.clear()
        self.outbox.clear()
        self._say_room()

    def _become_nobody(self) -> None:
        self.username = "root" if self.local_root else None
        self.roles = frozenset({FULL_ADMIN}) if self.local_root else frozenset()

    def may(self, roles: tuple[str, ...]) -> bool:
        """Whether it has one of `roles`, or the one that includes all."""
        return not roles or FULL_ADMIN in self.roles or not self.roles.isdisjoint(roles)

    # --- what it wants to hear ---

    def subscribe(
        self, name: str, at: Cursor = BEGINNING, *, addressed: bool = False, replaying: bool = False
    ) -> Subscription:
        """Hear of the collection `name`, or of all with `*`, after the record `at`. Raises CallFailed."""
        if len(self._subscriptions) >= SUBSCRIPTION_LIMIT:
            raise CallFailed(errno.ENOSPC, f"A client may have {SUBSCRIPTION_LIMIT} subscriptions")
        made = Subscription(self._new_id(), name, at, addressed=addressed, replaying=replaying)
        self._subscriptions[made.id] = made
        return made

    def unsubscribe(self, subscription: str) -> bool:
        """End one subscription. False: there is none of that id."""
        return self._subscriptions.pop(subscription, None) is not None

    def hears(self, collection: str) -> bool:
        """Whether a change of `collection` is for this client."""
        subscriptions = self._subscriptions
        return bool(subscriptions) and any(one.hears(collection) for one in subscriptions.values())

    # --- what it is told ---

    def notify(self, collection: str, frame: bytes, at: Cursor | None = None) -> None:
        """Queue a change of `collection`, or end the subscription of a client that is too far behind.

        at: the record that it comes from, None where it is not in the log.
        """
        hearers = [
            subscription
            for subscription in self._subscriptions.values()
            if subscription.hears(collection) and not (subscription.replaying and at is not None)
        ]
        plain = [subscription for subscription in hearers if not subscription.addressed]
        self._queue(plain, frame, at)
        for subscription in hearers:
            if subscription.addressed:
                self._queue([subscription], rpc.addressed(frame, subscription.id), at)

    def end(self, name: str, why: rpc.Detail | None) -> None:
        """End the subscriptions to `name` and say so. why None: an end in good order."""
        self._end_all([s for s in self._subscriptions.values() if s.name == name], lambda _: why)

    def end_one(self, subscription: Subscription, why: rpc.Detail) -> None:
        """End one subscription and say so."""
        self._end_all([s for s in self._subscriptions.values() if s is subscription], lambda _: why)

    def cut(self, after: int, from_log: Callable[[str], bool]) -> None:
        """Applied records after `after` were cut from the log. from_log: whether a collection comes from it."""
        concerned = [s for s in self._subscriptions.values() if s.name == "*" or from_log(s.name)]
        self._end_all(concerned, lambda subscription: subscription.why_cut(after))

    def missed(self, from_log: Callable[[str], bool]) -> None:
        """Records were applied that nobody was told of: a replay brings there whom it can, the others are told."""
        live = [s for s in self._subscriptions.values() if not s.replaying and (s.name == "*" or from_log(s.name))]
        for subscription in live:
            subscription.replaying = subscription.addressed
        self._end_all([s for s in live if not s.addressed], Subscription.why_missed)

    def take(self) -> bytes:
        """The next frame to send; there must be one in the outbox."""
        frame = self.outbox.popleft()
        if len(self.outbox) <= SPAN:
            self._say_room()
        return frame

    def _queue(self, hearers: Sequence[Subscription], frame: bytes, at: Cursor | None) -> None:
        """One frame for all of `hearers`."""
        if not hearers:
            return
        if len(self.outbox) >= OUTBOX_LIMIT:
            self._end_all(hearers, Subscription.why_behind)
            return
        self.outbox.append(frame)
        if at is not None:
            for subscription in hearers:
                subscription.at = at

    def _end_all(self, ended: Sequence[Subscription], why: Callable[[Subscription], rpc.Detail | None]) -> None:
        """Every addressed one is told by its id, the others once for each name."""
        told: set[str] = set()
        for subscription in ended:
            del self._subscriptions[subscription.id]
            params: dict[str, object] = {"collection": subscription.name, "error": why(subscription)}
            if subscription.addressed:
                params["subscription"] = subscription.id
            elif subscription.name in told:
                continue
            else:
                told.add(subscription.name)
            self.outbox.append(rpc.encode_notice("notify_unsubscribed", params))

    # --- replays ---

    def to_replay(self) -> Subscription | None:
        """The one that is furthest behind of those that are behind the log."""
        behind = [subscription for subscription in self._subscriptions.values() if subscription.replaying]
        return min(behind, key=lambda subscription: subscription.at.seq, default=None)

    def has_room(self) -> bool:
        """Whether a span of a replay may be queued; otherwise `on_room` is called when it may."""
        return len(self.outbox) <= SPAN

    def replayed(self, subscription: Subscription, changes: Sequence[bytes], upto: Cursor, applied: int) -> None:
        """Queue the changes of one span, which are for `subscription`. upto: the span's end. applied: seq, now."""
        if self._subscriptions.get(subscription.id) is not subscription:
            return
        self.outbox.extend(rpc.addressed(frame, subscription.id) for frame in changes)
        subscription.at = upto
        subscription.replaying = upto.seq < applied

    def _say_room(self) -> None:
        if self.on_room is not None:
            self.on_room()
