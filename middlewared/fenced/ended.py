"""That this controller ended itself, when and why: kept in the data directory, since the next boot must know it.

    end        noted, then the reboot; the note is waited for NOTE_S at most, for a disk that stalls must not keep a
               controller alive that has to end
    boot       the end that led to it is told for as long as this boot lasts
    often      TOO_OFTEN ends within WITHIN_S: whatever makes it end would end it again, so it claims nothing by itself
               any more, over any number of boots, until an operator forces it, which pardons them

The times are the wall clock's: boots share no other. A clock that jumps may hide a row of ends or make one up; either
way an operator is asked a boot too late or too early, and nothing else follows from it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.ports import Clock

TOO_OFTEN = 3
WITHIN_S = 600.0
KEPT = 10
NOTE_S = 0.1


class End(msgspec.Struct, frozen=True, kw_only=True):
    """seen_in: the boot that came after it; "": none yet. pardoned: it counts no more."""

    wall_ns: int
    why: str
    seen_in: str = ""
    pardoned: bool = False


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """The last ends of this controller, oldest first."""

    ends: tuple[End, ...] = ()

    @property
    def often(self) -> bool:
        counted = [end for end in self.ends if not end.pardoned][-TOO_OFTEN:]
        return len(counted) == TOO_OFTEN and counted[-1].wall_ns - counted[0].wall_ns <= WITHIN_S * 1e9

    def before(self, boot_id: str) -> End | None:
        """The end that led to this boot."""
        return next((end for end in reversed(self.ends) if end.seen_in == boot_id), None)

    def and_then(self, end: End) -> Ends:
        return Ends(ends=(*self.ends, end)[-KEPT:])

    def seen(self, boot_id: str) -> Ends:
        return Ends(ends=tuple(msgspec.structs.replace(e, seen_in=e.seen_in or boot_id) for e in self.ends))

    def pardon(self) -> Ends:
        return Ends(ends=tuple(msgspec.structs.replace(end, pardoned=True) for end in self.ends))


NO_ENDS = Ends()


class EndsFile:
    """`ended.json`, as of this boot. A file that cannot be read is none; one that cannot be written is noted."""

    def __init__(self, path: Path, boot_id: str, clock: Clock, note: Callable[..., None]) -> None:
        self._path = path
        self._clock = clock
        self._note = note
        self._turn = threading.Lock()
        self._ending = False
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Ends)
        except (OSError, msgspec.DecodeError):
            kept = Ends()
        self.ends = kept.seen(boot_id)
        if self.ends != kept:
            self._keep()

    def add(self, why: str) -> None:
        """Note the end of this boot, once; returns when it is on the disk, or after NOTE_S."""
        if self._ending:
            return
        self._ending = True
        self.ends = self.ends.and_then(End(wall_ns=self._clock.wall_ns(), why=why))
        self._keep().join(NOTE_S)

    def pardon(self) -> None:
        self.ends = self.ends.pardon()
        self._keep()

    def _keep(self) -> threading.Thread:
        """By a thread of its own: whoever owns terms waits for no disk."""
        thread = threading.Thread(target=self._write, args=(msgspec.json.encode(self.ends),), daemon=True)
        thread.start()
        return thread

    def _write(self, content: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            with self._turn, temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(self._path)
        except OSError as e:
            self._note("end-not-noted", file=str(self._path), why=e.strerror)


def end_by(ways: tuple[Callable[[], None], ...], why: str) -> None:
    """End this controller by the first way that is open. Raises SystemExit where none is: then init ends it."""
    for way in ways:
        try:
            return way()
        except PortFailed:
            continue
    raise SystemExit(f"fenced: no way to end this controller is open: {why}")
