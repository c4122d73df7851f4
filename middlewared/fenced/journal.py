"""Lines for people on stderr: key=value, one a transition. A reader that does not read never makes fenced wait."""

from __future__ import annotations

import os
import select
import time

_STDERR = 2
_MAX_LINE = select.PIPE_BUF


def note(event: str, **fields: object) -> None:
    """Write one line, or drop it where stderr would block (a full pipe)."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    text = " ".join(
        [f"time={stamp}", "process=fenced", f"event={event}", *(f"{k}={_shown(v)}" for k, v in fields.items())]
    )
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    if poll.poll(0):
        os.write(_STDERR, text.encode()[: _MAX_LINE - 1] + b"\n")


def _shown(value: object) -> str:
    text = str(value)
    return '"' + text.replace('"', "'") + '"' if " " in text or not text else text
