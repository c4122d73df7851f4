"""The command line where no lab is: what it refuses, and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from middlewared.lab import command


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["power", "A", "off"],
        ["freeze", "B"],
        ["thaw", "B"],
        ["cut", "interlink"],
        ["heal", "shelf:A"],
        ["exec", "A", "--", "true"],
    ],
)
def test_a_missing_lab_is_one_clear_line_and_exit_status_1(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = words.index("--") if "--" in words else len(words)
    assert command.main([*words[:at], "--dir", str(tmp_path), *words[at:]]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (f"middlewared-lab: lab: there is none up in {tmp_path} (`middlewared-lab up --dir {tmp_path}`)\n")


def test_down_on_nothing_is_fine(tmp_path: Path) -> None:
    assert command.main(["down", "--dir", str(tmp_path / "never")]) == 0
    assert command.main(["down", "--dir", str(tmp_path)]) == 0
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["power", "C", "off"], "argument node: invalid choice: 'C'"),
        (["power", "A"], "required: to"),
        (["cut", "lan"], "argument link: invalid choice: 'lan'"),
        (["cut", "lan:A", "--one-way", "up"], "argument --one-way: invalid choice: 'up'"),
        (["exec", "A"], "a command is needed after --"),
        (["up", "--build", "C=/usr"], "'C=/usr' is not A=DIR or B=DIR with a DIR/bin/middlewared"),
        (["up", "--build", "A=/nowhere"], "'A=/nowhere' is not A=DIR or B=DIR with a DIR/bin/middlewared"),
        (["explode"], "invalid choice: 'explode'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_arguments_name_what_is_wrong_and_exit_with_2(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_directory_that_is_too_long_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["up", "--dir", "/tmp/" + "x" * 120]) == 1
    assert "limit 107" in capsys.readouterr().err


def test_stand_ins_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.json").write_text('{"controller": 1}')
    assert command.main(["up", "--dir", str(tmp_path / "l"), "--stand-ins", str(tmp_path / "p.json")]) == 1
    assert "$.controller" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "up", "status", "power", "freeze", "thaw", "cut", "heal", "down", "exec"])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([name, "--help"] if name else ["--help"])
    assert ended.value.code == 0
    assert ("--dir" in capsys.readouterr().out) == bool(name)
