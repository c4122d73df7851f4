"""What a client does after each failure of one call: send it again, somewhere, after a while, or give up.

Until its outcome is unknown a call may be sent as often as it is refused or not sent at all. From then on nothing but
an answer of the writer to this very request tells what became of it: a controller that is standby, has no role yet, or
lacks events says nothing of it, nor does one that cannot be reached. So the call goes on until the time is over, and
only to a server that carries out a write once under one id. A call that only asks needs none of this.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping

from middlewared.connection import Connection
from middlewared.kernel.errors import (
    EHAUNAVAILABLE,
    CallFailed,
    MiddlewareError,
    NotAuthenticated,
    NotAuthorized,
    OutcomeUnknown,
    PortFailed,
    TooManyCalls,
)

ROUND_S = 0.2
"""Between two rounds through addresses none of which answers."""
RETRY_AFTER_LIMIT_S = 5.0
"""A refusal that names a longer wait is for the caller to know of."""

_ASKING = {"ping", "query", "config", "get_instance", "status", "state", "me", "info", "version", "ready", "node"}
"""Last parts of the names of methods that only ask, whatever their namespace."""


def only_asks(method: str) -> bool:
    """Whether `method` may be sent twice without harm, going by its name; in doubt it may not."""
    last = method.rpartition(".")[2]
    return last in _ASKING or last.startswith(("get_", "has_")) or last.endswith("_choices")


class Sending:
    """One call. until: monotonic seconds; again: as the caller said. Methods return the pause in s, or raise."""

    def __init__(self, method: str, again: bool | None, until: float, request_id: str) -> None:
        self.method = method
        self.until = until
        self.request_id = request_id
        self._again = again
        self.unknown: OutcomeUnknown | None = None
        """Set once it was sent, may have been carried out, and nobody has said what became of it."""
        self._redirected = False

    @property
    def left_s(self) -> float:
        return max(0.0, self.until - time.monotonic())

    async def may_go_on(self, connection: Connection) -> bool:
        """Whether the call may be sent on this connection: the first time on any. Raises as `request` does."""
        return self.unknown is None or bool(self._again) or await connection.may_repeat(self.method, self.left_s)

    def not_connected(self, error: MiddlewareError) -> float:
        """No address took it."""
        return self._round(error)

    def redirected(self, moved: bool, error: CallFailed) -> float:
        """That controller is standby. moved: there is another address to go to."""
        if not moved:
            return self._round(error)
        # The second time they point at each other: a change of roles is under way.
        pause_s = ROUND_S if self._redirected else 0.0
        self._redirected = True
        return self._after(pause_s, error)

    def failed(self, error: MiddlewareError) -> float:
        """The call failed with this."""
        match error:
            case OutcomeUnknown() if only_asks(self.method) and self._again is not False:
                return self._after(0.0, error)
            case OutcomeUnknown():
                self.unknown = self.unknown or OutcomeUnknown(self.request_id)
                if self._again is False:
                    raise self.unknown from None
                return self._after(0.0, error)
            case PortFailed():
                # Nothing was sent, and the connection is known to be lost: the next one.
                return self._after(0.0, error)
            case NotAuthenticated() | NotAuthorized() if self.unknown is not None:
                raise self.unknown from error
            case TooManyCalls():
                return self._round(error)
            case CallFailed() if error.errno == EHAUNAVAILABLE:
                return self._round(error)
            case CallFailed() if (wait_s := _retry_after_s(error)) is not None:
                return self._after(wait_s, error)
        raise error

    def _round(self, error: MiddlewareError) -> float:
        """Only a call whose outcome is unknown is tried again."""
        if self.unknown is None:
            raise error
        return self._after(ROUND_S, error)

    def _after(self, pause_s: float, error: MiddlewareError) -> float:
        if time.monotonic() + pause_s >= self.until:
            raise self.unknown or error from None
        return pause_s


def _retry_after_s(refusal: CallFailed) -> float | None:
    extra = refusal.extra
    wait_s = extra.get("retry_after_s") if isinstance(extra, Mapping) and refusal.errno == errno.EBUSY else None
    return float(wait_s) if isinstance(wait_s, int | float) and wait_s <= RETRY_AFTER_LIMIT_S else None
