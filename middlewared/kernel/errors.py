"""The whole tree of errors.

    MiddlewareError
    ├── Refused            bad input: every (field, message, errno) found, not only the first
    ├── UnknownMethod      no such method
    ├── TooManyCalls       one client has more calls under way than it may
    ├── CallFailed         a call that cannot be carried out: errno, reason, extra
    │   ├── NotAuthenticated     207
    │   ├── NotAuthorized        EACCES
    │   ├── NotActive            EROFS: this controller is not the writer, here is who is
    │   ├── NoRole               EBUSY: no role yet, try again
    │   ├── ConfigBehind         210: the writer lacks committed events, or cannot read one that it has
    │   ├── UpgradePending       EOPNOTSUPP: the log's format has no words for it before upgrade.finalize
    │   └── OutcomeUnknown       ETIMEDOUT: may have happened; ask again with the request id
    ├── LogDamaged         a stored record contradicts its hash, its place or its neighbours
    ├── Diverged           two logs differ below what both promised to keep
    ├── PortFailed         something outside (a file, netlink, a disk) refused; says for what purpose
    │   └── OutOfSpace           a disk has no room; nothing of what was tried is there
    ├── BadBootFile        the boot file cannot be used; names the field
    └── BadPlugin          a plugin cannot be loaded; names it and the rule that it breaks

Wire codes are given in one place only, middlewared.protocol.rpc.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

ENOTAUTHENTICATED = 207
EHAUNAVAILABLE = 210

Problem = tuple[str, str, int]
"""(field path, what is wrong with it, errno)"""


class MiddlewareError(Exception):
    """Base of everything that this product raises on purpose."""


class Refused(MiddlewareError):
    """The caller's input is wrong.

    problems: (field, message) or (field, message, errno); errno is EINVAL where it is left out.
    """

    def __init__(self, *problems: tuple[str, str] | Problem) -> None:
        self.problems: tuple[Problem, ...] = tuple(
            (p[0], p[1], p[2]) if len(p) == 3 else (p[0], p[1], errno.EINVAL) for p in problems
        )
        super().__init__("; ".join(f"{field}: {message}" for field, message, _ in self.problems))


class UnknownMethod(MiddlewareError):
    """There is no method of that name."""


class TooManyCalls(MiddlewareError):
    """A client has more calls under way than it may; nothing of this one was done."""


class CallFailed(MiddlewareError):
    """A well-formed call that cannot be carried out."""

    def __init__(self, errno_: int, reason: str, extra: Mapping[str, object] | Sequence[object] | None = None):
        super().__init__(reason)
        self.errno = errno_
        self.reason = reason
        self.extra = extra


class NotAuthenticated(CallFailed):
    def __init__(self) -> None:
        super().__init__(ENOTAUTHENTICATED, "Not authenticated")


class NotAuthorized(CallFailed):
    def __init__(self, reason: str = "Not authorized") -> None:
        super().__init__(errno.EACCES, reason)


class NotActive(CallFailed):
    """A write on the standby. active_urls: where the writer answers."""

    def __init__(self, node: str, active_urls: Sequence[str]) -> None:
        where = f"is at {', '.join(active_urls)}" if active_urls else "is not known at the moment"
        super().__init__(
            errno.EROFS,
            f"Controller {node} is standby; the active controller {where}",
            {"active_urls": list(active_urls), "node": node},
        )


class NoRole(CallFailed):
    """Neither active nor standby yet. retry_after_s: when to ask again."""

    def __init__(self, why: str, retry_after_s: float = 1.0) -> None:
        super().__init__(errno.EBUSY, why, {"retry_after_s": retry_after_s})


class ConfigBehind(CallFailed):
    """The writer knows that it lacks committed events, or cannot read one that it has, so it writes nothing."""

    def __init__(self, why: str) -> None:
        super().__init__(EHAUNAVAILABLE, f"CONFIG_BEHIND: {why}", {"code": "CONFIG_BEHIND"})


class UpgradePending(CallFailed):
    """The log goes on in a format that has no words for this event, until an operator raises it."""

    def __init__(self, kind: str, needed: int, log_format: int) -> None:
        super().__init__(
            errno.EOPNOTSUPP,
            f"{kind} needs log format {needed}, and the log goes on in format {log_format} until upgrade.finalize",
            {"code": "UPGRADE_PENDING", "log_format": log_format, "needed": needed},
        )


class OutcomeUnknown(CallFailed):
    """The deadline passed; the command may still commit."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            errno.ETIMEDOUT,
            f"The outcome of request {request_id} is not known yet; ask again with the same request_id",
            {"request_id": request_id},
        )
        self.request_id = request_id


class LogDamaged(MiddlewareError):
    """A record contradicts its hash, its place or its neighbours.

    where: the file; seq: the first record that is wrong (0 where it is the file itself).
    """

    def __init__(self, where: str, seq: int, what: str) -> None:
        super().__init__(f"{where}: seq {seq}: {what}" if seq else f"{where}: {what}")
        self.where = where
        self.seq = seq
        self.what = what


class Diverged(MiddlewareError):
    """Two logs differ below what both promised to keep; nothing is cut."""


class PortFailed(MiddlewareError):
    """Something outside the process refused. purpose: what it was wanted for."""

    def __init__(self, purpose: str, reason: str) -> None:
        super().__init__(f"{purpose}: {reason}")
        self.purpose = purpose
        self.reason = reason


class OutOfSpace(PortFailed):
    """A disk has no room for what was to be written; the same may be tried again."""


class BadBootFile(MiddlewareError):
    """The boot file cannot be used; the message names the fields and the reasons, one a line."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))


class BadPlugin(MiddlewareError):
    """A plugin cannot be loaded; the message names it and the rule that it breaks."""
