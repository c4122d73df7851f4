from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from middlewared import command

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """run(arguments...) -> (exit status, stdout, stderr), with the boot file of a single controller."""
    boot = tmp_path / "boot.toml"
    boot.write_text(f'node = "A"\nrun_dir = "{tmp_path}"\n')

    def middlewared(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["middlewared", "--config", str(boot), *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
        return end.value.code, *capfd.readouterr()

    return middlewared


def test_without_an_interlink_there_is_no_address_to_give(run: Run) -> None:
    assert run("addresses") == (0, "", "")


def test_without_a_daemon_nothing_can_be_handed_over_and_the_reason_is_one_line(run: Run, tmp_path: Path) -> None:
    status, out, err = run("hand-over")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"{tmp_path}/middlewared.sock" in err
