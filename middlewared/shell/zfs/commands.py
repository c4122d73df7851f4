"""Run a command of ZFS: nothing on its stdin, English words, a bounded end, and the whole output or PortFailed.

A command dies with the process that asked: whoever comes after it looks at what is imported, and an import that began
before would not be seen there yet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from middlewared.kernel.errors import PortFailed

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KILLED_S = 1.0
"""A command that hangs in the kernel does not die of SIGKILL either: nobody waits longer for that."""


class Failed(PortFailed):
    """The command ran and said no. output: all that it said."""

    def __init__(self, purpose: str, reason: str, output: str) -> None:
        super().__init__(purpose, reason)
        self.output = output


class Commands:
    """enter: what each command begins with, where ZFS lives in other namespaces than this process."""

    def __init__(self, enter: Sequence[str] = ()) -> None:
        self._enter = tuple(enter)

    async def run(self, purpose: str, *argv: str, timeout_s: float) -> str:
        """What it printed. Raises Failed where it ended with another status than 0, else PortFailed."""
        try:
            process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *self._enter,
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": PATH, "LC_ALL": "C"},
                cwd="/",
            )
        except OSError as e:
            raise PortFailed(purpose, f"{argv[0]}: {e.strerror}") from None
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        except TimeoutError:
            raise PortFailed(purpose, f"`{' '.join(argv[:2])}` did not end within {timeout_s:g} s") from None
        finally:
            await _end(process)
        if process.returncode != 0:
            said = (out + err).decode(errors="replace")
            raise Failed(purpose, _sentence(said) or f"exit status {process.returncode}", said)
        return out.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILLED_S):
                await process.wait()


_NOISE = ("Defaulting to ", "invalid vdev specification", "use '-f' to ")


def _sentence(said: str) -> str:
    """What is left without the advice for somebody who sits at a shell."""
    lines = (line.strip() for line in said.splitlines())
    return "; ".join(line for line in lines if line and not line.startswith(_NOISE))
