from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from middlewared import command, config

GOOD = """
node = "A"
listen = "0.0.0.0:8080"

[interlink]
interface = "il0"
address = "169.254.10.1"
peer = "169.254.10.2"
"""

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def check(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """check(arguments...) -> (exit status, stdout, stderr) of `middlewared config check`."""

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["middlewared", "config", "check", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
        return end.value.code, *capfd.readouterr()

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "boot.toml"


def test_a_good_file_is_called_good(check: Run, file: Path) -> None:
    file.write_text(GOOD)
    assert check(file) == (0, f"{file}: good\n", "")


def test_every_fault_is_a_line_and_the_exit_status_1(check: Run, file: Path) -> None:
    file.write_text(GOOD + "[timing]\nlease = 2.0\nheld_s = 1.0\n")
    status, out, err = check(file)
    assert (status, out) == (1, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == ["timing.lease", "timing.held_s = 1.0"]
    assert all(line.startswith(f"{file}: ") for line in err.splitlines())


@pytest.mark.parametrize("content", [None, "node: A"])
def test_what_cannot_be_read_is_exit_status_2(check: Run, file: Path, content: str | None) -> None:
    if content is not None:
        file.write_text(content)
    status, out, err = check(file)
    assert (status, out) == (2, "")
    assert err.startswith(f"{file}: ")


def test_all_that_is_in_force_is_a_boot_file_that_says_the_same(check: Run, file: Path) -> None:
    file.write_text(GOOD)
    status, out, err = check("--all", file)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert 'listen = "0.0.0.0:8080"' in lines
    assert "port = 6000  # default" in lines
    assert "lease_s = 1.0  # default" in lines
    again = config.flat(tomllib.loads(out))
    assert again == config.flat(tomllib.loads(GOOD))


def test_a_program_gets_one_object(check: Run, file: Path) -> None:
    file.write_text(GOOD.replace('"169.254.10.2"', '"169.254.99.2"'))
    status, out, err = check("--json", file)
    said = json.loads(out)
    assert (status, err) == (1, "")
    assert [fault["field"] for fault in said["faults"]] == ["interlink.peer"]
    assert said["faults"][0]["relation"] == "must lie in 169.254.10.0/24, interlink.address's network"
    assert said["values"]["timing.held_s"] == 1.25
