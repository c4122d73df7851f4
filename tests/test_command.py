from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from middlewared import __version__, command

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(arguments...) -> (exit status, stdout, stderr)."""

    def middlewared(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["middlewared", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
        return end.value.code, *capfd.readouterr()

    return middlewared


def test_a_boot_file_that_is_not_there_is_one_line_and_exit_status_1(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "boot.toml"
    line = f"middlewared: {file}: No such file or directory\n"
    assert run("serve", "--config", file) == (1, "", line)
    assert run("--config", file, "serve") == (1, "", line)
    assert run("--config", file, "pair") == (1, "", line)


@pytest.mark.parametrize("arguments", [(), ("sing",), ("serve", "now"), ("pair", "CODE", "HOST", "MORE")])
def test_what_is_no_command_is_exit_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "usage: middlewared" in err


def test_a_code_without_a_host_is_bad_usage(run: Run, tmp_path: Path) -> None:
    (tmp_path / "boot.toml").write_text(f'node = "A"\nrun_dir = "{tmp_path}"\n')
    status, _, err = run("--config", tmp_path / "boot.toml", "pair", "CODE")
    assert status == 2
    assert "the address of the other controller is missing" in err


def test_pairing_without_a_daemon_says_so_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "boot.toml").write_text(f'node = "A"\nrun_dir = "{tmp_path}"\n')
    status, out, err = run("--config", tmp_path / "boot.toml", "pair")
    assert (status, out) == (1, "")
    assert err.startswith("middlewared: ")
    assert f"{tmp_path}/middlewared.sock" in err
    assert err.count("\n") == 1


def test_setup_puts_no_boot_file_where_the_units_would_not_read_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "boot.toml"
    line = "middlewared: --config: the units of systemd read /etc/middlewared.toml: another file needs --no-units\n"
    assert run("setup", "--yes", "--node", "A", "--interlink", "none", "--config", file) == (1, "", line)
    assert not file.exists()


def test_the_version_is_told(run: Run) -> None:
    assert run("--version") == (0, __version__ + "\n", "")
