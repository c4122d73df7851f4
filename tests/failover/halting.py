"""Runs `middlewared serve` in such a way that a step of a plan can be held, for a controller of the lab.

    python halting.py .../bin/middlewared serve --config FILE

Where the file `halt` beside FILE holds `PLAN STEP before`, a plan of that name waits before that step; with `after`,
when the step is done and nothing was told of it yet: that is the worst moment to die in. `halted` says that it waits;
it goes on when `halt` is gone. Nothing of the product knows of this.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from middlewared import command
from middlewared.engine.steps import Deeds, Steps
from middlewared.protocol.plan import Do, Message, Run, Undo

POLL_S = 0.002


def main() -> None:
    sys.argv = sys.argv[1:]
    directory = Path(sys.argv[sys.argv.index("--config") + 1]).parent
    carry_out = Steps._wait_for

    async def wait_for(steps: Steps, action: Do | Undo, deeds: Deeds, run: Run) -> Message:
        if isinstance(action, Undo):
            return await carry_out(steps, action, deeds, run)
        place = f"{run.plan.name} {action.step.name}"
        await _halt(directory, f"{place} before")
        message = await carry_out(steps, action, deeds, run)
        await _halt(directory, f"{place} after")
        return message

    setattr(Steps, "_wait_for", wait_for)  # noqa: B010 - to a type checker a method is not to be replaced
    command.main()


async def _halt(directory: Path, place: str) -> None:
    while _wanted(directory) == place:
        (directory / "halted").touch()
        await asyncio.sleep(POLL_S)


def _wanted(directory: Path) -> str:
    try:
        return (directory / "halt").read_text()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    main()
