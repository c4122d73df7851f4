"""ports.Upkeep: looks after this controller's files, in child processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from middlewared.kernel.facts import Node
from middlewared.kernel.upkeep import LogCheck, Saved
from middlewared.shell import child

_MIB = 1024 * 1024


class Upkeep:
    """data_dir: where the files are, of controller `node`."""

    def __init__(self, data_dir: Path, node: Node) -> None:
        self._data = data_dir
        self._node: Node = node

    async def save_config(self, progress: Callable[[float, str], None]) -> Saved:
        """Make a backup; see `middlewared config save`. Raises CallFailed."""

        def told(at: int, of: int) -> None:
            progress(100 * at / of if of else 100, f"{at // _MIB} of {of // _MIB} MiB")

        command = ["config", "save", "--json", "--data", str(self._data), "--node", self._node]
        answer = await child.run(command, told)
        return msgspec.json.decode(answer, type=Saved)

    async def verify_log(self, progress: Callable[[float, str], None]) -> LogCheck:
        """Walk the whole log; see `middlewared log verify`. Raises CallFailed when it cannot be read."""

        def told(at: int, of: int) -> None:
            progress(100 * at / of if of else 100, f"seq {at} of {of}")

        answer = await child.run(["log", "verify", "--json", str(self._data / "log.db")], told)
        return msgspec.json.decode(answer, type=LogCheck)
