"""The owner's disk stalls for 10 s, or fails one sync: on the pair, with the kernel's call itself held up or failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.recorded import TOP


def run_case(shim: Path, directory: Path, case: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.crash.bad_disk", str(directory), case],
        check=False,
        env={**os.environ, "LD_PRELOAD": str(shim), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=TOP,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.full
def test_a_sync_that_stalls_10_s_moves_no_role_and_leaves_the_outcome_unknown_till_it_lands(
    shim: Path, tmp_path: Path
) -> None:
    run_case(shim, tmp_path, "stall")


def test_a_sync_that_fails_once_is_never_believed_and_ends_the_owner(shim: Path, tmp_path: Path) -> None:
    run_case(shim, tmp_path, "EIO")
