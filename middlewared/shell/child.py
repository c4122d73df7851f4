"""Long work on files, in a process of its own at the lowest priority, so that it delays no call and no commit.

The child prints one JSON object a line: `{"at": n, "of": m}` as it gets on, and a last line that is its answer. What
it writes to stderr is the reason when there is no answer.
"""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from middlewared.kernel.errors import CallFailed

LINE_LIMIT = 1024 * 1024
END_S = 5.0

Told = Callable[[int, int], None]
"""(how far, of how much)"""


class _At(msgspec.Struct, forbid_unknown_fields=True):
    at: int
    of: int


async def run(command: Sequence[str], told: Told) -> bytes:
    """Run `middlewared COMMAND...` and return its last line. A caller that is cancelled ends the child.

    Raises CallFailed (EIO) with the child's last word when it gives no answer.
    """
    argv = [sys.executable, "-m", "middlewared.command", *command]
    pipe = subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, limit=LINE_LIMIT
    )
    assert child.stdout is not None
    assert child.stderr is not None
    last = b""
    with suppress(OSError):  # It may be over already.
        os.setpriority(os.PRIO_PROCESS, child.pid, 19)
    said = asyncio.create_task(child.stderr.read())
    try:
        async for line in child.stdout:
            try:
                at = msgspec.json.decode(line, type=_At)
            except msgspec.ValidationError:
                last = line
            else:
                told(at.at, at.of)
        words = (await said).decode(errors="replace").strip().splitlines()
        await child.wait()
    finally:
        said.cancel()
        await _end(child)
    if not last:
        raise CallFailed(errno.EIO, words[-1] if words else f"middlewared {command[0]} ended with {child.returncode}")
    return last


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()
        await asyncio.wait_for(child.wait(), END_S)
