"""One process has the data directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.store.lock import DataDirectory

HOLD = """
import sys
from pathlib import Path
from middlewared.store.lock import DataDirectory
held = DataDirectory(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_with_the_first_ones_id_until_that_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(PortFailed, match=f"use the data directory {tmp_path}: process {other.pid} has it open"):
                DataDirectory(tmp_path)
        finally:
            other.kill()
            other.wait(10)
    DataDirectory(tmp_path).close()


def test_the_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "deep" / "data") as held:
        assert held.path.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PortFailed, match=r"use the data directory .*file/data: .*Not a directory"):
        DataDirectory(tmp_path / "file" / "data")
