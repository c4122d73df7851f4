"""What the words of fenced, and its silence, mean for the VIPs of this controller.

OWNER and SINGLE grant the term while they serve; STANDBY revokes, and so does an owner that keeps clients out. WAITING
revokes too, with one exception: as the first word of a new connection it says only that a fenced which has just
restarted does not know yet. Until it does, or until `patience_s` after the old connection was lost, the last word
stands: a restart of fenced is no reason to drop a VIP.

The connection gone for `patience_s` withdraws: nobody is left who would be told that the term is over.

After this process stood still, the last word is worth nothing: `forget`, and take a new connection, so that whatever
comes on it was said afterwards.
"""

from __future__ import annotations

from middlewared.protocol import hub
from middlewared.protocol.carp_messages import Grant, Revoke, Withdraw

_GRANTS = ("OWNER", "SINGLE")


class Warrant:
    """now is CLOCK_BOOTTIME. What is returned goes to every group; None: nothing changed."""

    def __init__(self, patience_s: float, now: float) -> None:
        self._patience_s = patience_s
        self._lost_at: float | None = now
        self._first = True
        self.last: Grant | Revoke | Withdraw | None = None
        """The word that stands: what a group that is made later must be told at once."""

    def connected(self) -> None:
        """A new connection to fenced. It has said nothing yet."""
        self._first = True

    def lost(self, now: float) -> None:
        if self._lost_at is None:
            self._lost_at = now

    def forget(self, now: float) -> None:
        """This process stood still."""
        self.last = None
        self.lost(now)

    def hear(self, standing: hub.Standing) -> Grant | Revoke | None:
        """fenced speaks."""
        restarting = self._first and standing.role == "WAITING" and isinstance(self.last, Grant)
        self._first = False
        if restarting:
            self._first = True
            return None
        self._lost_at = None
        word: Grant | Revoke
        if standing.role in _GRANTS and standing.serves:
            word = Grant(term=standing.term)
        else:
            word = Revoke(term=standing.term, why=f"{standing.role}: {standing.why}")
        self.last = word
        return word

    def tick(self, now: float) -> Withdraw | None:
        """The deadline has come, or may have."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return None
        self.last = Withdraw(why=f"no word of fenced for {now - (deadline - self._patience_s):.2f} s")
        return self.last

    def deadline(self) -> float | None:
        if self._lost_at is None or isinstance(self.last, Withdraw):
            return None
        return self._lost_at + self._patience_s
