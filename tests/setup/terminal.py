"""A person at a terminal: a command on a pty of its own, what it prints, what is typed."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import time
from collections.abc import Sequence

WITHIN_S = 30.0


class Terminal:
    """Use as a context manager. term: what the terminal says that it is."""

    def __init__(self, argv: Sequence[str], term: str = "dumb") -> None:
        self.seen = ""
        self._read_to = 0
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execvpe(argv[0], list(argv), {**os.environ, "TERM": term})

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def expect(self, text: str, within_s: float = WITHIN_S) -> str:
        """Wait until `text` is printed after what was expected before; what stood in between."""
        limit = time.monotonic() + within_s
        while (at := self.seen.find(text, self._read_to)) < 0:
            left = limit - time.monotonic()
            assert left > 0, f"{text!r} did not come; there is: {self.seen[self._read_to :]}"
            assert self._take(left), f"it ended without {text!r}: {self.seen[self._read_to :]}"
        between = self.seen[self._read_to : at]
        self._read_to = at + len(text)
        return between

    def type(self, line: str) -> None:
        os.write(self._fd, line.encode() + b"\n")

    def interrupt(self) -> None:
        os.write(self._fd, b"\x03")

    def end(self, within_s: float = WITHIN_S) -> int:
        """The exit status."""
        limit = time.monotonic() + within_s
        while self._take(max(limit - time.monotonic(), 0.0)):
            assert time.monotonic() < limit, f"it goes on: {self.seen[self._read_to :]}"
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _take(self, within_s: float) -> bool:
        if not select.select([self._fd], [], [], within_s)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            data = b""
        self.seen += data.decode(errors="replace").replace("\r", "")
        return bool(data)
