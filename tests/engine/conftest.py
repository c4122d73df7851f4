"""A pair, and where controllers keep their data: in memory, where there is room.

What is tried here is the engine. What a disk does to a log is in tests/store, tests/crash and the lab.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.engine.pair import Pair

IN_MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 1 << 30


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    roomy = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= ENOUGH_BYTES
    with tempfile.TemporaryDirectory(prefix="mw-", dir=IN_MEMORY if roomy else None) as directory:
        yield Path(directory)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """A owns and B follows, in sync."""
    async with Pair(tmp_path) as made:
        await made.in_sync()
        yield made
