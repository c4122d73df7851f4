"""ports.Upkeep: looks after this controller's files, in child processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from middlewared.kernel.upkeep import LogCheck
from middlewared.shell import child


class Upkeep:
    """data_dir: where the files are."""

    def __init__(self, data_dir: Path) -> None:
        self._data = data_dir

    async def verify_log(self, progress: Callable[[float, str], None]) -> LogCheck:
        """Walk the whole log; see `middlewared log verify`. Raises CallFailed when it cannot be read."""

        def told(at: int, of: int) -> None:
            progress(100 * at / of if of else 100, f"seq {at} of {of}")

        answer = await child.run(["log", "verify", "--json", str(self._data / "log.db")], told)
        return msgspec.json.decode(answer, type=LogCheck)
