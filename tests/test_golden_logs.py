"""Whole logs as older builds left them, byte for byte: they verify, show and fold as they did on the day.

    format1.log     a log of revision b472ea0, the first build, one record a line as in quarantine; eleven fields
    format2.log     the same configuration in the second format: twelve fields, the last is the method
    *.show          what `middlewared log show --json` of that build printed
    *.state.json    what that build's fold came to

A noun that came later says nothing here: its state must be the one that it begins with.
"""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from middlewared import command
from middlewared.engine import registry
from middlewared.kernel.event import Record
from middlewared.log_format import NOUN
from middlewared.store import quarantine
from middlewared.store.log import LogStore
from middlewared.store.rebuild import fold, rebuild
from middlewared.store.verify import verify
from tests.golden import shape

GOLDEN = Path(__file__).parent / "golden"
FORMATS = (1, 2)
OF_THE_FIRST_BUILD = {
    "term.begin 1",
    "user.administrator.set_up 1",
    "failover.settings.updated 1",
    "network.configuration.updated 1",
    "network.vip.updated 1",
    "network.vip.deleted 1",
}
DIGESTS = {
    1: "f2c8b5c2b922cffafd211333b9d0e8d3f50d9874588e72f8f22b1d206e231a3c",
    2: "20601e8509d4f023ee80b1648b34c94ae5f1725911d4aab548fe3adb05a24f51",
}
"""Of the rows of the nouns in *.state.json. They change with a table of those, and with nothing else."""


@pytest.fixture(params=FORMATS)
def number(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def records(number: int) -> list[Record]:
    return list(quarantine.read(GOLDEN / f"format{number}.log"))


@pytest.fixture
def path(records: list[Record], tmp_path: Path) -> Path:
    """The log as a database of this build."""
    path = tmp_path / "log.db"
    with closing(LogStore.open(path)) as log:
        log.append(records)
    return path


def test_it_is_read_with_as_many_fields_as_it_was_written_with(number: int) -> None:
    lines = (GOLDEN / f"format{number}.log").read_bytes().splitlines()
    assert {len(json.loads(line)) for line in lines} == {10 + number}


def test_it_verifies_and_goes_on_as_it_was(path: Path, records: list[Record]) -> None:
    assert verify(path) == records[-1].position
    with closing(LogStore.open(path)) as log:
        assert log.since(0, 1000) == records


def test_it_shows_what_it_showed(number: int, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    boot = path.with_name("boot.toml")
    boot.write_text(f'node = "A"\ndata_dir = "{path.parent}"\n')
    with pytest.raises(SystemExit) as end, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["middlewared", "--config", str(boot), "log", "show", "--json"])
        command.main()
    assert end.value.code == 0
    shown = [as_shown(line) for line in capfd.readouterr().out.splitlines()]
    assert shown == [as_shown(line) for line in (GOLDEN / f"format{number}.show").read_text().splitlines()]


def as_shown(line: str) -> dict[str, object]:
    """The time in whatever zone it is told; the first build did not show the method that its records do not have."""
    shown = json.loads(line)
    shown["time"] = datetime.fromisoformat(shown["time"]).timestamp()
    return {"method": "", **shown}


def test_it_folds_to_the_state_that_it_was_folded_to(number: int, path: Path) -> None:
    plugins = registry.load()
    nouns = list(plugins.nouns.values())
    with closing(LogStore.open(path)) as log:
        at, states, blocked = fold(log, plugins.catalogue, nouns, log.head().seq)
        assert (at, blocked) == (log.head(), None)
    recorded = expected(number)
    for noun in nouns:
        initial = noun.initial if noun is not NOUN else msgspec.structs.replace(NOUN.initial, log_format=number)
        assert plain(states[noun.name]) == recorded.get(noun.name, plain(initial)), noun.name


def test_its_projection_has_the_digest_that_was_recorded(number: int, path: Path) -> None:
    plugins = registry.load()
    nouns = [noun for noun in plugins.nouns.values() if noun.name in expected(number)]
    with closing(LogStore.open(path)) as log:
        made = rebuild(log, path.with_name("state.db"), plugins.catalogue, nouns)
    assert made.digest == DIGESTS[number]


def plain(state: msgspec.Struct) -> object:
    return json.loads(msgspec.json.encode(state))


def expected(number: int) -> dict[str, object]:
    return dict(json.loads((GOLDEN / f"format{number}.state.json").read_text()))


@pytest.mark.parametrize("cls", shape.written(), ids=shape.name)
def test_an_event_class_is_never_changed_but_by_a_new_version(cls: type) -> None:
    known = shape.recorded()
    assert shape.name(cls) in known, "record its shape: python -m tests.golden.shape"
    assert shape.of(cls) == known[shape.name(cls)], "give the class a new version, with an upcast, and record that"


def test_what_the_first_build_did_not_know_is_not_written_into_its_logs() -> None:
    since = {shape.name(cls): cls.since_format[-1] for cls in shape.written()}
    later = {name: log_format for name, log_format in since.items() if name not in OF_THE_FIRST_BUILD}
    # The raise itself is what ends a log of the first format.
    assert later.pop("log.format.raised 1") == 1
    assert [name for name, log_format in later.items() if log_format < 2] == []
