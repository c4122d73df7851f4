"""`middlewared log` and `middlewared state`, as an operator runs them."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from threading import Timer
from typing import ClassVar

import pytest

from middlewared import command
from middlewared.kernel.event import START, Event, Position, Record, Stamp, seal
from middlewared.store.lock import DataDirectory
from middlewared.store.log import LogStore

Run = Callable[..., tuple[object, str, str]]


class Noted(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "test.noted"
    text: str


def notes(count: int, after: Position = START) -> list[Record]:
    records = []
    for n in range(count):
        stamp = Stamp(
            term=3,
            origin="B",
            actor="admin",
            request_id=f"r-{n}",
            wall_ns=1_700_000_000_123_000_000,
            method="test.note" if n > 2 else "",
        )
        records.append(seal(Noted(text=f"größe {n}"), after, stamp))
        after = records[-1].position
    return records


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a log of five events, and a boot file beside it that names it."""
    directory = tmp_path / "data"
    with closing(LogStore.open(directory / "log.db")) as log:
        log.append(notes(5))
    (tmp_path / "boot.toml").write_text(f'node = "A"\ndata_dir = "{directory}"\n')
    return directory


@pytest.fixture
def run(data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(arguments...) -> (exit status, stdout, stderr)."""

    def middlewared(*arguments: object) -> tuple[object, str, str]:
        boot = str(data.parent / "boot.toml")
        monkeypatch.setattr(sys, "argv", ["middlewared", "--config", boot, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
        return end.value.code, *capfd.readouterr()

    return middlewared


@contextmanager
def process(data: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """The same in a process of its own, for pipes and signals; it is killed after half a minute at the latest."""
    code = "from middlewared.command import main; main()"
    boot = str(data.parent / "boot.toml")
    argv = [sys.executable, "-c", code, "--config", boot, *map(str, arguments)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        bound = Timer(30, started.kill)
        bound.start()
        try:
            yield started
        finally:
            bound.cancel()
            started.kill()


def test_show_json_gives_one_object_a_line_with_every_field(run: Run) -> None:
    status, out, err = run("log", "show", "--json")
    assert (status, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    time = lines[0].pop("time")
    assert datetime.fromisoformat(time).utcoffset() is not None
    assert datetime.fromisoformat(time).timestamp() == 1_700_000_000.123
    assert lines[0] == {
        "seq": 1,
        "term": 3,
        "origin": "B",
        "kind": "test.noted",
        "version": 1,
        "actor": "admin",
        "request_id": "r-0",
        "method": "",
        "payload": {"text": "größe 0"},
        "hash": notes(1)[0].hash.hex(),
    }
    assert [(line["seq"], line["method"]) for line in lines[2:]] == [(3, ""), (4, "test.note"), (5, "test.note")]


def test_show_for_people_names_kind_actor_and_time_with_its_zone(run: Run) -> None:
    status, out, _ = run("log", "show", "--since", 4)
    assert status == 0
    (line,) = out.splitlines()
    seq, time, rest = line.split(maxsplit=2)
    assert seq == "5"
    assert datetime.fromisoformat(time).utcoffset() is not None
    assert rest.split() == ["term", "3", "B", "admin", "test.noted", "v1", '{"text":"größe', '4"}']


@pytest.mark.parametrize("name", ["log.db", ""], ids=["the file", "its directory"])
def test_show_reads_the_log_that_is_named(run: Run, data: Path, name: str) -> None:
    elsewhere = data.rename(data.with_name("elsewhere"))
    assert run("log", "show", "--json", "--db", elsewhere / name)[1].count("\n") == 5


def test_show_follows_the_log_until_it_is_interrupted(data: Path) -> None:
    with closing(LogStore.open(data / "log.db")) as log, process(data, "log", "show", "--json", "--follow") as shown:
        assert shown.stdout is not None
        seqs = [json.loads(shown.stdout.readline())["seq"] for _ in range(5)]
        log.append(notes(2, after=log.head()))
        seqs += [json.loads(shown.stdout.readline())["seq"] for _ in range(2)]
        shown.send_signal(signal.SIGINT)
        assert shown.wait(10) == 130
        assert seqs == [1, 2, 3, 4, 5, 6, 7]


def test_a_reader_that_goes_away_early_is_no_error(data: Path) -> None:
    with closing(LogStore.open(data / "log.db")) as log:
        log.append(notes(3000, after=log.head()))
    with process(data, "log", "show") as shown:
        assert shown.stdout is not None
        assert shown.stderr is not None
        shown.stdout.readline()
        shown.stdout.close()
        assert shown.stderr.read() == b""
        assert shown.wait(10) == 0


def test_verify_says_what_is_intact(run: Run, data: Path) -> None:
    status, out, err = run("log", "verify")
    assert (status, err) == (0, "")
    assert out == f"{data / 'log.db'}: intact, 5 records, term 3, head {notes(5)[-1].hash.hex()}\n"


def test_verify_names_the_file_the_seq_and_what_differs(run: Run, data: Path) -> None:
    path = data / "log.db"
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index("größe 2".encode())] ^= 1
    path.write_bytes(damaged)
    assert run("log", "verify", path) == (1, "", f"{path}: seq 3: its bytes do not give its hash\n")
    assert path.read_bytes() == damaged


def test_verify_speaks_to_programs_too(run: Run, data: Path) -> None:
    status, out, _ = run("log", "verify", "--json")
    *steps, verdict = map(json.loads, out.splitlines())
    assert (status, steps[-1]) == (0, {"at": 5, "of": 5})
    head = notes(5)[-1].hash.hex()
    assert verdict == {"intact": True, "records": 5, "term": 3, "hash": head, "fault": None}
    path = data / "log.db"
    path.write_bytes(path.read_bytes().replace("größe 2".encode(), "größe 3".encode()))
    status, out, err = run("log", "verify", "--json")
    fault = {"file": str(path), "seq": 3, "what": "its bytes do not give its hash"}
    assert (status, json.loads(out)["fault"]) == (1, fault)
    assert err == f"{path}: seq 3: its bytes do not give its hash\n"


def test_verify_notices_a_log_that_state_db_is_ahead_of(run: Run, data: Path) -> None:
    assert run("state", "rebuild")[0] == 2, "the kind is not known here, so state.db stays at the start"
    with closing(sqlite3.connect(data / "state.db")) as state:
        state.execute("UPDATE applied SET seq = 9")
        state.commit()
    status, _, err = run("log", "verify")
    assert status == 1
    assert err == f"{data / 'log.db'}: seq 9: state.db has this record applied, but the log does not hold it\n"


@pytest.mark.parametrize("arguments", [("log", "verify"), ("log", "show"), ("log", "show", "--follow")])
def test_a_log_that_is_not_there_is_one_line_and_status_2(run: Run, data: Path, arguments: tuple[str, ...]) -> None:
    (data / "log.db").unlink()
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err == f"read {data / 'log.db'}: No such file or directory\n"


@pytest.mark.parametrize("arguments", [("log", "verify"), ("log", "show")])
def test_a_file_of_something_else_is_one_line_and_status_1(run: Run, data: Path, arguments: tuple[str, ...]) -> None:
    (data / "log.db").write_bytes(random.Random(0).randbytes(8192))
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert err == f"{data / 'log.db'}: SQLite: file is not a database\n"


def test_a_missing_boot_file_is_one_line_and_status_2(run: Run, data: Path) -> None:
    (data.parent / "boot.toml").unlink()
    status, _, err = run("log", "show")
    assert status == 2
    assert err == f"{data.parent / 'boot.toml'}: No such file or directory\n"


def test_rebuild_makes_a_deleted_state_again(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.db"
    LogStore.open(path).close()
    status, out, err = run("state", "rebuild", "--db", path)
    assert (status, err) == (0, "")
    assert out.startswith(f"{path.with_name('state.db')}: made from the log up to seq 0, digest ")
    status, again, _ = run("state", "rebuild", "--db", path)
    assert status == 0
    assert again.split(";")[0] == out.split(";")[0]


def test_rebuild_says_what_it_could_not_apply(run: Run, data: Path) -> None:
    status, out, err = run("state", "rebuild")
    assert status == 2
    assert "made from the log up to seq 0" in out
    assert err == "apply what comes after seq 0: seq 1: kind test.noted version 1 is not known here\n"


def test_rebuild_refuses_while_the_daemon_has_the_data_directory(run: Run, data: Path) -> None:
    with DataDirectory(data):
        status, out, err = run("state", "rebuild")
    assert (status, out) == (2, "")
    assert err == f"use the data directory {data}: process {os.getpid()} has it open\n"
    assert not (data / "state.db").exists()
