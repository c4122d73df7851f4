"""Called wrongly, carpd says which argument or file it is, in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def carpd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "middlewared.carpd", *arguments], capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("eth0", "0", "192.0.2.10", "x"), "VHID: '0'"),
        (("eth0", "300", "192.0.2.10", "x"), "VHID: '300'"),
        (("eth0", "7", "192.0.2.300", "x"), "ADDRESS: '192.0.2.300'"),
        (("eth0", "7", "192.0.2.10", "x" * 21), "PASSWORD: more than 20 bytes"),
        (("eth0", "7", "192.0.2.10", "@/nonexistent"), "PASSWORD: /nonexistent"),
        (("eth0", "7", "192.0.2.10", "x", "--advbase", "255"), "--advbase: 255"),
        (("eth0", "7", "192.0.2.10", "x", "--advskew", "255"), "--advskew: 255"),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple[str, ...], named: str) -> None:
    done = carpd("--plain", *arguments)
    assert done.returncode == 2
    assert named in done.stderr.splitlines()[-1]


def test_a_boot_file_that_cannot_be_used_is_named_with_its_field(tmp_path: Path) -> None:
    assert "nowhere.toml: No such file" in carpd("--config", str(tmp_path / "nowhere.toml")).stderr
    file = tmp_path / "boot.toml"
    file.write_text('node = "C"\n')
    done = carpd("--config", str(file))
    assert done.returncode == 1
    assert "node" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_first_line_says_what_real_time_treatment_was_got() -> None:
    program = (
        "import asyncio; from middlewared.carpd.__main__ import _serve\n"
        "class Idle:\n"
        "    async def run(self): pass\n"
        "asyncio.run(_serve(lambda scheduling: Idle()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    (line,) = done.stderr.splitlines()
    assert "process=carpd event=start scheduling=" in line
    assert "gc frozen" in line
