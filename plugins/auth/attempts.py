"""How often an address may try a password: FAILURES wrong ones in WINDOW_S, then none until the oldest is that old.

One table, ADDRESSES long; the address that failed longest ago makes room. Time is handed in, in seconds.
Not handled: an attacker with many addresses. Hashing is limited apart from this, so he cannot take the processors.
"""

from __future__ import annotations

from collections import OrderedDict, deque

FAILURES = 10
WINDOW_S = 60.0
ADDRESSES = 1024


class Attempts:
    """The failed logins that are remembered."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """How long `address` must wait before it may try; 0 = not at all."""
        times = self._failures.get(address)
        if times is None:
            return 0.0
        while times and times[0] <= now - WINDOW_S:
            times.popleft()
        if not times:
            del self._failures[address]
            return 0.0
        return 0.0 if len(times) < FAILURES else times[0] + WINDOW_S - now

    def failed(self, address: str, now: float) -> None:
        """A wrong password came from `address`."""
        self._failures.setdefault(address, deque(maxlen=FAILURES)).append(now)
        self._failures.move_to_end(address)
        if len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """A right password came from `address`: its failures are forgotten."""
        self._failures.pop(address, None)
