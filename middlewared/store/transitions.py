"""The last changes of this controller's role, in a file of its own: they are facts of one controller, not of the log.

One JSON object a line, oldest first. The one that is under way is the last line; it is written at each of its steps, so
that a process that ends in the middle leaves what it was at. Not fsynced: what a power cut takes away is a time that
somebody wanted to read, and the file is replaced whole.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from middlewared.kernel.transition import Transition

log = logging.getLogger(__name__)

KEPT = 200
RUNNING = "running"
INTERRUPTED = "interrupted"


class Transitions:
    """Raises nothing: a file that cannot be read or written costs the history and never a failover."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = [_ended(transition) for transition in _read(path)]

    def all(self) -> tuple[Transition, ...]:
        """Oldest first; the last may be under way."""
        return tuple(self._kept)

    def begin(self, transition: Transition) -> None:
        self._kept = [*self._kept[-(KEPT - 1) :], transition]
        self._write()

    def go_on(self, transition: Transition) -> None:
        """The one that was begun last, as it is by now."""
        self._kept[-1] = transition
        self._write()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(b"".join(msgspec.json.encode(kept) + b"\n" for kept in self._kept))
            temporary.replace(self._path)
        except OSError as e:
            log.warning("event=transition_not_kept file=%s why=%r", e.filename, e.strerror)


def _read(path: Path) -> list[Transition]:
    try:
        return [msgspec.json.decode(line, type=Transition) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as e:
        log.warning("event=transitions_not_read file=%s why=%r", path, str(e))
        return []


def _ended(transition: Transition) -> Transition:
    """This process has just begun: whatever was under way is so no more."""
    if transition.outcome != RUNNING:
        return transition
    return msgspec.structs.replace(transition, outcome=INTERRUPTED, why="middlewared ended in the middle of it")
