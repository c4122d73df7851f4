"""`middlewared log repair`, as an operator runs it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from middlewared import repair_command
from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Silent
from middlewared.repair_command import may_be_only_here
from middlewared.shell.identity import Cluster, Keys
from middlewared.store.lock import DataDirectory
from middlewared.store.log import LogStore
from middlewared.store.schema import NO_UPDATE
from tests.test_log_command import Run, data, run

__all__ = ["data", "run"]


def damage(path: Path, seq: int) -> None:
    with closing(sqlite3.connect(path / "log.db", isolation_level=None)) as database:
        database.execute("DROP TRIGGER event_no_update")
        database.execute("UPDATE event SET actor = 'mallory' WHERE seq = ?", (seq,))
        database.execute(NO_UPDATE)


def pair_up(path: Path) -> None:
    keys = Keys(path, "A")
    keys.pair(Cluster.new(), keys.certificate)


def record(*in_sync: Node, serial: int = 0) -> PairRecord:
    return PairRecord(term=5, owner="A", in_sync=in_sync, committed_seq=1, committed_hash=bytes(32), serial=serial)


def test_a_damaged_log_is_set_aside_whole_and_the_next_one_is_empty(run: Run, data: Path) -> None:
    damage(data, 3)
    pair_up(data)
    status, out, err = run("log", "repair", "--yes")
    assert status == 2
    assert f"found: {data / 'log.db'}: seq 3: its bytes do not give its hash" in out
    assert "not known whether controller B has every answered write: 0 of 0 shared disks answer" in out
    assert "nothing was done" in err
    bytes_ = (data / "log.db").read_bytes()
    status, out, err = run("log", "repair", "--yes", repair_command.GIVE_UP)
    assert (status, err) == (0, "")
    (aside,) = (data / "set-aside").iterdir()
    assert (aside / "log.db").read_bytes() == bytes_
    assert str(aside) in out
    assert Keys(data, "A").cluster is not None
    with closing(LogStore.open(data / "log.db")) as log:
        assert log.head().seq == 0


def test_an_intact_log_is_left_alone(run: Run, data: Path) -> None:
    pair_up(data)
    status, _, err = run("log", "repair", "--yes", repair_command.GIVE_UP)
    assert status == 2
    assert err == f"repair the log: {data / 'log.db'} is intact; nothing was done\n"
    assert not (data / "set-aside").exists()


def test_a_controller_that_was_never_paired_has_nobody_to_fetch_from(run: Run, data: Path) -> None:
    damage(data, 3)
    status, _, err = run("log", "repair", "--yes", repair_command.GIVE_UP)
    assert status == 2
    assert "never paired" in err
    assert not (data / "set-aside").exists()


def test_without_a_terminal_or_yes_nothing_is_done(run: Run, data: Path) -> None:
    damage(data, 3)
    pair_up(data)
    status, _, err = run("log", "repair", repair_command.GIVE_UP)
    assert status == 2
    assert "--yes" in err
    assert not (data / "set-aside").exists()


def test_while_the_daemon_has_the_data_directory_nothing_is_done(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair_command, "LOCK_WAIT_S", 0.05)
    with DataDirectory(data):
        status, _, err = run("log", "repair", "--yes")
    assert status == 2
    assert "has it open" in err


def judged(*said: PairRecord | Silent | None) -> str | None:
    """Of three disks that vote, for A."""
    return may_be_only_here(said, sum(not isinstance(record, Silent) for record in said) >= 2, "A")


def test_the_other_one_has_everything_when_the_latest_record_of_a_majority_names_it() -> None:
    silent = Silent("away")
    assert judged(record("A", "B"), record("A", "B"), silent) is None
    assert judged(record("B", serial=2), record("A", "B"), record("A", "B")) is None
    assert "is not in sync" in (judged(record("A", "B"), record("A", serial=2), record("A", "B")) or "")
    assert "1 of 3 shared disks answer" in (judged(record("A", "B"), silent, silent) or "")
    assert "no record" in (judged(None, None, None) or "")
