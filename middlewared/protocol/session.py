"""The state of one client: who it is, what it may, what it wants to hear, and what it has not been sent yet.

Pure: ids are handed in, frames come ready to send, and the shell empties `outbox`.

A client hears every change of a collection that it subscribed to, in order, or it is told that it does not. When more
than OUTBOX_LIMIT frames wait because it reads too slowly, its subscription ends with a `notify_unsubscribed` that says
so, after the frames that still wait; nothing is skipped silently. It may subscribe again and ask for the present state.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from middlewared.kernel.errors import CallFailed
from middlewared.protocol import rpc

OUTBOX_LIMIT = 1000
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
        self.calls_waiting = 0
        """Calls that were started and wait for something; CALLS_LIMIT is the bound."""
        self._new_id = new_id
        self._subscriptions: dict[str, str] = {}
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

    def _become_nobody(self) -> None:
        self.username = "root" if self.local_root else None
        self.roles = frozenset({FULL_ADMIN}) if self.local_root else frozenset()

    def may(self, roles: tuple[str, ...]) -> bool:
        """Whether it has one of `roles`, or the one that includes all."""
        return not roles or FULL_ADMIN in self.roles or not self.roles.isdisjoint(roles)

    def subscribe(self, name: str) -> str:
        """Hear of the collection `name`, or of all with `*`. Returns the subscription's id. Raises CallFailed."""
        if len(self._subscriptions) >= SUBSCRIPTION_LIMIT:
            raise CallFailed(errno.ENOSPC, f"A client may have {SUBSCRIPTION_LIMIT} subscriptions")
        subscription = self._new_id()
        self._subscriptions[subscription] = name
        return subscription

    def unsubscribe(self, subscription: str) -> bool:
        """End one subscription. False: there is none of that id."""
        return self._subscriptions.pop(subscription, None) is not None

    def hears(self, collection: str) -> bool:
        """Whether a change of `collection` is for this client."""
        return any(name in (collection, "*") for name in self._subscriptions.values())

    def notify(self, collection: str, frame: bytes) -> None:
        """Queue a change of `collection`, or end the subscription of a client that is too far behind."""
        if len(self.outbox) < OUTBOX_LIMIT:
            self.outbox.append(frame)
            return
        reason = f"The client is {OUTBOX_LIMIT} notifications behind; subscribe again and ask for the present state"
        for name in {n for n in self._subscriptions.values() if n in (collection, "*")}:
            self.end(name, rpc.detail(errno.ENOBUFS, reason))

    def end(self, name: str, why: rpc.Detail | None) -> None:
        """End the subscriptions to `name` and say so. why None: an end in good order."""
        ended = [subscription for subscription, n in self._subscriptions.items() if n == name]
        if not ended:
            return
        for subscription in ended:
            del self._subscriptions[subscription]
        self.outbox.append(rpc.encode_notice("notify_unsubscribed", {"collection": name, "error": why}))
