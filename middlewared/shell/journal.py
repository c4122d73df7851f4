"""Lines for people on stderr: key=value, one line a transition. A reader that does not read never makes us wait."""

from __future__ import annotations

import os
import select
import time

_STDERR = 2


class Journal:
    """process: which one speaks."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._poll = select.poll()
        self._poll.register(_STDERR, select.POLLOUT)

    def note(self, event: str, **fields: object) -> None:
        """Write one line, or lose it where stderr would block (a full pipe)."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        head = f"time={stamp} process={self._process} event={event}"
        text = " ".join([head, *(f"{name}={_shown(value)}" for name, value in fields.items())])
        if self._poll.poll(0):
            os.write(_STDERR, text.encode()[: select.PIPE_BUF - 1] + b"\n")


def _shown(value: object) -> str:
    text = str(value)
    return '"' + text.replace('"', "'") + '"' if " " in text or not text else text
