from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.setup import units

BINARIES = Path(sys.executable).parent
DAEMONS = ("middlewared-fenced.service", "middlewared-carpd.service", "middlewared.service")
PROTECTED = (*DAEMONS, "middlewared-fenced-watch.service")

Unit = dict[str, dict[str, list[str]]]


class _Repeatable(dict[str, str]):
    """A key of a unit may be given more than once; configparser joins them here with a newline."""

    def __setitem__(self, key: str, value: str) -> None:
        if key in self and isinstance(value, list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def unit(name: str) -> Unit:
    text = units.files(BINARIES, "/var/lib/middlewared").files[Path("etc/systemd/system") / name]
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeatable, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(text)
    return {
        section: {key: value.split("\n") for key, value in parser[section].items()} for section in parser.sections()
    }


def words(of: Unit, section: str, key: str) -> set[str]:
    return {word for line in of[section].get(key, []) for word in line.split()}


def test_systemd_finds_nothing_wrong_with_any_unit(tmp_path: Path) -> None:
    units.install(units.files(BINARIES, "/var/lib/middlewared"), tmp_path)
    directory = tmp_path / "etc/systemd/system"
    argv = [
        "systemd-analyze",
        "verify",
        "--man=no",
        *(str(directory / name) for name in (units.TARGET, *units.SERVICES)),
    ]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env={"SYSTEMD_UNIT_PATH": f"{directory}:"}
    )
    complaints = [line for line in done.stderr.splitlines() if "middlewared" in line]
    assert (done.returncode, complaints) == (0, [])


@pytest.mark.parametrize("name", PROTECTED)
def test_what_must_live_is_restarted_for_ever_within_a_tenth_of_a_second(name: str) -> None:
    service = unit(name)
    assert service["Service"]["Restart"] == ["always"]
    assert service["Service"]["RestartSec"] == ["100ms"]
    assert service["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert int(service["Service"]["OOMScoreAdjust"][0]) <= -900


@pytest.mark.parametrize("name", PROTECTED)
def test_what_cannot_start_is_not_spun(name: str) -> None:
    (command,) = unit(name)["Service"]["ExecStopPost"]
    wait_s = float(command.split("sleep ")[1].rstrip("'"))
    assert wait_s >= 0.2
    script = shlex.split(command.replace(f"sleep {wait_s:g}", "echo waits"))
    for status, says in (("1", "waits\n"), ("0", ""), ("KILL", "")):
        done = subprocess.run(
            script, env={"EXIT_STATUS": status}, capture_output=True, text=True, timeout=10, check=False
        )
        assert (done.returncode, done.stdout) == (0, says)


@pytest.mark.parametrize("name", DAEMONS)
def test_the_three_are_siblings(name: str) -> None:
    service = unit(name)
    others = {other for other in DAEMONS if other != name}
    for key in ("Requires", "BindsTo", "Requisite", "PartOf", "Wants", "Upholds", "After", "Before"):
        assert not words(service, "Unit", key) & others
    assert words(service, "Unit", "PartOf") == {units.TARGET}


def test_a_directory_that_three_share_stays_when_one_of_them_stops() -> None:
    for name in DAEMONS:
        service = unit(name)["Service"]
        assert (service["RuntimeDirectory"], service["RuntimeDirectoryPreserve"]) == (["middleware"], ["yes"])


def test_a_daemon_that_says_nothing_is_killed() -> None:
    assert unit("middlewared.service")["Service"]["WatchdogSec"] == ["5s"]
    assert unit("middlewared-fenced.service")["Service"]["WatchdogSec"] == ["2s"]
    for name in ("middlewared.service", "middlewared-fenced.service"):
        service = unit(name)["Service"]
        assert (service["Type"], service["WatchdogSignal"]) == (["notify"], ["SIGKILL"])


@pytest.mark.parametrize("name", [name for name in PROTECTED if name != "middlewared.service"])
def test_what_the_failover_hangs_on_has_its_turn_and_its_memory(name: str) -> None:
    service = unit(name)["Service"]
    assert service["CPUSchedulingPolicy"] == ["rr"]
    assert service["LimitMEMLOCK"] == ["infinity"]
    assert {"CAP_SYS_NICE", "CAP_IPC_LOCK"} <= words(unit(name), "Service", "CapabilityBoundingSet")


def test_the_handover_is_stopped_before_what_it_needs_and_not_with_a_daemon() -> None:
    handover = unit("middlewared-handover.service")
    assert {*DAEMONS, "network.target"} <= words(handover, "Unit", "After")
    for key in ("PartOf", "Requires", "BindsTo"):
        assert not words(handover, "Unit", key) & set(DAEMONS)
    assert handover["Service"]["ExecStop"][0].startswith("-")


def test_the_watch_outlives_fenced_and_is_stopped_before_it_when_all_is_stopped() -> None:
    watch = unit("middlewared-fenced-watch.service")
    assert words(watch, "Unit", "PartOf") == {units.TARGET}
    assert "middlewared-fenced.service" in words(watch, "Unit", "After")


def test_no_pool_is_imported_at_boot_by_anything_else() -> None:
    links = units.files(BINARIES, "/d").links
    for name in ("zfs-import-cache.service", "zfs-import-scan.service", "zfs-import.target"):
        assert links[Path("etc/systemd/system") / name] == Path("/dev/null")


def test_what_is_installed_twice_changes_nothing_and_what_differs_is_put_right(tmp_path: Path) -> None:
    wanted = units.files(Path("/opt/middlewared/bin"), "/srv/mw")
    assert set(units.install(wanted, tmp_path)) == {*wanted.files, *wanted.links}
    assert units.install(wanted, tmp_path) == []
    fenced = tmp_path / "etc/systemd/system/middlewared-fenced.service"
    assert "ExecStart=/opt/middlewared/bin/middlewared-fenced\n" in fenced.read_text()
    assert "RequiresMountsFor=/srv/mw\n" in fenced.read_text()
    fenced.write_text("")
    (tmp_path / "etc/systemd/system/zfs-import.target").unlink()
    assert {path.name for path in units.install(wanted, tmp_path)} == {fenced.name, "zfs-import.target"}


def test_somebodys_own_unit_in_the_place_of_a_masked_one_is_not_touched(tmp_path: Path) -> None:
    own = tmp_path / "etc/systemd/system/zfs-import-scan.service"
    own.parent.mkdir(parents=True)
    own.write_text("[Service]\n")
    with pytest.raises(PortFailed, match=r"zfs-import-scan\.service is in the way"):
        units.install(units.files(BINARIES, "/d"), tmp_path)
    assert own.read_text() == "[Service]\n"
    assert [path for path in own.parent.iterdir() if path != own] == []


def test_every_unit_that_is_packaged_is_installed() -> None:
    packaged = {path.name for path in (Path(units.__file__).parent / "systemd").iterdir()}
    assert packaged == {units.TARGET, *units.SERVICES, "system.conf"}
