"""A command of ZFS has an end, and says what it said."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.shell.zfs.commands import Commands

ASKS = """
import asyncio, sys
from middlewared.shell.zfs.commands import Commands
asyncio.run(Commands().run("wait", "sh", "-c", "echo $$ > " + sys.argv[1] + "; exec sleep 60", timeout_s=60.0))
"""


async def becomes_true(condition: Callable[[], bool]) -> bool:
    for _ in range(500):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


async def test_what_a_command_prints_is_returned_and_what_it_complains_about_is_raised() -> None:
    assert await Commands().run("greet", "echo", "hello", timeout_s=5.0) == "hello\n"
    with pytest.raises(PortFailed, match="complain: no such pool"):
        await Commands().run("complain", "sh", "-c", "echo no such pool >&2; exit 1", timeout_s=5.0)


async def test_a_command_that_does_not_end_is_killed_and_one_that_is_not_there_is_named() -> None:
    with pytest.raises(PortFailed, match=r"did not end within 0\.1 s"):
        await Commands().run("wait", "sleep", "60", timeout_s=0.1)
    with pytest.raises(PortFailed, match="no-such-command"):
        await Commands().run("look", "no-such-command", timeout_s=5.0)


async def test_a_command_dies_with_the_process_that_asked(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    asker = await asyncio.create_subprocess_exec(sys.executable, "-c", ASKS, str(file))
    assert await becomes_true(lambda: file.exists() and file.read_text().endswith("\n"))
    command = Path("/proc") / file.read_text().strip()
    assert command.exists()
    asker.kill()
    await asker.wait()
    assert await becomes_true(lambda: not command.exists())
