"""Getting the owner's snapshot: the receiver pulls it, piece by piece, at a bounded rate.

A snapshot is a copy of state.db with a manifest. It lies with the owner under an id; the receiver asks for it to be
taken, then for one piece after the other by offset. One piece is under way at a time, so records and heartbeats never
wait behind more than PIECE bytes, and the rate is the receiver's to choose (a token bucket). A piece that did not come
is asked for again at the same offset, over whatever line there is then; an owner that no longer has the id is asked to
take another, and everything begins anew. After FAILURES in a row it is given up.

Not handled here: whether the snapshot may be installed (store.snapshot), and who carries the questions (peer_calls).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from middlewared.kernel.manifest import Manifest

TAKE = "snapshot.take"
READ = "snapshot.read"
PIECE = 256 * 1024
RATE_BYTES_S = 8 * 1024 * 1024
TAKE_TIMEOUT_S = 60.0
READ_TIMEOUT_S = 10.0
PAUSE_S = 1.0
FAILURES = 30


class Bucket:
    """A token bucket: `rate` bytes a second on average, `burst` at once."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._free = burst
        self._at = now

    def ready_at(self, size: int, now: float) -> float:
        """When `size` bytes may go; `now` if at once."""
        self._free = min(self._burst, self._free + (now - self._at) * self._rate)
        self._at = now
        return now + max(0.0, size - self._free) / self._rate

    def took(self, size: int) -> None:
        self._free -= size


class Take(msgspec.Struct, frozen=True):
    """Ask the owner for a new snapshot."""


class Read(msgspec.Struct, frozen=True):
    """Ask for `length` bytes from `offset`."""

    id: str
    offset: int
    length: int


class Wait(msgspec.Struct, frozen=True):
    until: float


class Whole(msgspec.Struct, frozen=True):
    """Every byte is here."""

    manifest: Manifest


class GaveUp(msgspec.Struct, frozen=True):
    why: str


Step: TypeAlias = Take | Read | Wait | Whole | GaveUp


class Fetch:
    """One transfer. `step` says what to do next; what became of it is told by `took`, `got` or `failed`."""

    def __init__(self, now: float, rate_bytes_s: float = RATE_BYTES_S) -> None:
        self.manifest: Manifest | None = None
        self.offset = 0
        self._bucket = Bucket(rate_bytes_s, PIECE, now)
        self._not_before = now
        self._failures = 0
        self._why = ""

    def step(self, now: float) -> Step:
        if self._failures >= FAILURES:
            return GaveUp(self._why)
        if now < self._not_before:
            return Wait(self._not_before)
        if self.manifest is None:
            return Take()
        length = min(PIECE, self.manifest.size - self.offset)
        if length == 0:
            return Whole(self.manifest)
        ready_at = self._bucket.ready_at(length, now)
        return Read(self.manifest.id, self.offset, length) if ready_at <= now else Wait(ready_at)

    def took(self, manifest: Manifest) -> None:
        self.manifest, self.offset = manifest, 0
        self._failures = 0

    def got(self, data: bytes) -> None:
        """The piece that was asked for; to be kept at the offset at which it was asked."""
        self._bucket.took(len(data))
        self.offset += len(data)
        self._failures = 0

    def failed(self, why: str, now: float, *, gone: bool) -> None:
        """gone: the owner does not have this snapshot any longer."""
        self._failures += 1
        self._why = why
        self._not_before = now + PAUSE_S
        if gone:
            self.manifest, self.offset = None, 0
