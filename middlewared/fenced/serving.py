"""Whether clients may come, and what a controller that has pools imported owes to the term.

    gained     a term was won by a controller that did not own: it serves at once where no pool is configured
    Serve      middlewared has the pools: it serves
    Block      middlewared keeps clients out, for a handover: it does not serve, and still owns
    over       the term is over: it does not serve

A term that goes on (a new one over this controller's own key) changes none of it, nor does a restart of fenced.

`must_end`: a controller whose term the other one took must not keep a pool. Its disks refuse its writes already, but
what is imported here cannot be exported any more, and an fsync that was under way may be answered falsely. Losing sight
of the disks is not that: as long as nobody took the term, it may be gone on with.

No I/O and no clock.
"""

from __future__ import annotations

from middlewared.protocol import hub


class Serving:
    """serves: while owning. pools: what is imported here. leaving: why a handover was asked of middlewared.

    leaves_by: the rule behind that.
    failed, failed_at: why, and when, this controller could not do what it took a term for.
    decided_at, last_sign_at: when the last claim was decided, and the last sign of the peer at that time.
    """

    def __init__(self, *, serves: bool, pools: tuple[str, ...], failed: str | None, failed_at: float | None) -> None:
        self.serves = serves
        self.pools = hub.Pools(imported=pools)
        self.leaving: str | None = None
        self.leaves_by = ""
        self.failed = failed
        self.failed_at = failed_at
        self.decided_at: float | None = None
        self.last_sign_at: float | None = None

    def decide(self, now: float, last_sign_at: float | None) -> None:
        """A claim begins, by a controller that does not own."""
        self.decided_at, self.last_sign_at = now, last_sign_at

    def gained(self, settings: hub.Settings | None) -> None:
        self.serves = not self.pools.imported and (settings is None or not settings.pools)
        self.leaving = self.failed = self.failed_at = None

    def over(self) -> None:
        self.serves = False
        self.leaving = None

    def fail(self, why: str, now: float) -> None:
        self.failed, self.failed_at = why, now

    def must_end(self, peer_took: str | None, *, owns: bool) -> str | None:
        """Why this controller must end at once, None where it need not. peer_took: see failover_view.Situation."""
        if owns or not self.pools.imported or peer_took is None:
            return None
        return f"{len(self.pools.imported)} pools are imported here, and {peer_took}"
