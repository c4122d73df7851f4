from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from middlewared.store.schema import HEADS
from tests.crash.enumeration import judge_all
from tests.crash.rebuild import Disk, Image, notes
from tests.crash.recorded import Recorded
from tests.crash.workloads import WORKLOADS

EVERY = 37
"""In the quick form each so many-th point is opened."""

Run = Callable[[str], Recorded]


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_notes_hold_every_byte_that_the_run_left_on_the_disk(run: Run, name: str) -> None:
    done = run(name)
    assert done.status == 0, done.stderr
    disk = Disk(done.base, done.root)
    for note in notes(done.trace):
        if note.what != "M":
            disk.take(note)
    replayed = disk.image("kept", random.Random())
    assert replayed is not None
    assert replayed.entries == done.real.entries


def test_the_files_of_an_older_build_are_brought_to_this_ones_schemas_on_the_way(run: Run, tmp_path: Path) -> None:
    done = run("migrated")
    assert [revisions(image, tmp_path / when) for when, image in (("before", done.base), ("after", done.real))] == [
        {"log": "0001", "state": "0001"},
        {"log": HEADS["log"], "state": HEADS["state"]},
    ]


def revisions(image: Image, data: Path) -> dict[str, str]:
    image.write(data)
    found = {}
    for which in ("log", "state"):
        with closing(sqlite3.connect(data / f"{which}.db")) as database:
            (found[which],) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return found


def test_every_group_that_is_answered_was_synced_before(run: Run) -> None:
    """One sync of the -wal file between two answers, at least: it would show if a sync were not noted."""
    synced = 0
    answers = Counter[bool]()
    for note in notes(run("goes_on").trace):
        if note.what == "S" and note.path.endswith("log.db-wal"):
            synced += 1
        elif note.what == "M" and note.offset > 0:
            answers[synced > 0] += 1
            synced = 0
    assert answers == {True: 5}


@pytest.mark.parametrize("name", WORKLOADS)
def test_after_a_crash_at_any_point_the_log_opens_whole_and_goes_on(run: Run, name: str) -> None:
    report = judge_all(name, run(name), seed=random.Random(name).randrange(EVERY), every=EVERY)
    assert report.wrong == []


def test_a_log_that_answers_before_it_syncs_is_found_out(run: Run) -> None:
    assert judge_all("careless", run("careless"), every=3).lost > 0


@pytest.mark.full
@pytest.mark.parametrize("name", WORKLOADS)
def test_after_a_crash_at_every_point_the_log_opens_whole_and_goes_on(run: Run, name: str) -> None:
    report = judge_all(name, run(name))
    assert report.wrong == []
