"""The units under a real systemd: what is killed comes back, alone; what hangs is killed; without fenced it reboots."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from middlewared.setup.units import SERVICES
from tests.setup.machine import SYSTEMD, Machine, cgroup2

DAEMONS = ("middlewared-fenced.service", "middlewared-carpd.service", "middlewared.service")
FENCED, CARPD, MIDDLEWARED = DAEMONS
WATCH = "middlewared-fenced-watch.service"
BOOT_FILE = 'node = "A"\n\n[interlink]\ninterface = "il0"\naddress = "169.254.10.1"\npeer = "169.254.10.2"\n'

pytestmark = pytest.mark.full


def need_systemd() -> None:
    if os.geteuid() != 0 or cgroup2() is None or not SYSTEMD.exists():
        pytest.skip("needs root, a cgroup2 mount and systemd")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    need_systemd()
    with Machine(tmp_path_factory.mktemp("machine"), BOOT_FILE) as made:
        made.plug("il0")
        made.until("everything is up", lambda: all(made.is_up(name) for name in SERVICES))
        yield made


def test_the_boot_gives_the_interlink_its_address_and_nothing_fails(machine: Machine) -> None:
    assert "169.254.10.1/24" in machine.run("ip", "addr", "show", "il0").stdout
    assert machine.systemctl("--failed", "--no-legend") == ""


@pytest.mark.parametrize("name", [*DAEMONS, WATCH])
def test_a_daemon_that_is_killed_comes_back_and_the_others_do_not_notice(machine: Machine, name: str) -> None:
    machine.until("nothing is under way", lambda: all(machine.is_up(each) for each in SERVICES))
    before = {each: machine.pid(each) for each in (*DAEMONS, WATCH)}
    machine.signal(name, signal.SIGKILL)
    machine.until("it is another", lambda: machine.pid(name) not in (0, before[name]) and machine.is_up(name))
    after = {each: machine.pid(each) for each in before}
    assert {each for each in before if before[each] != after[each]} == {name}


def test_fenced_killed_once_a_second_is_no_reason_to_reboot(machine: Machine) -> None:
    for _ in range(5):
        machine.until("fenced is there", lambda: machine.is_up(FENCED))
        machine.signal(FENCED, signal.SIGKILL)
        time.sleep(1.0)  # the pace is what is tested
    assert machine.runs


@pytest.mark.parametrize(("name", "within_s"), [(FENCED, 4.0), (MIDDLEWARED, 8.0)])
def test_a_daemon_that_stands_still_is_killed_and_comes_back(machine: Machine, name: str, within_s: float) -> None:
    machine.until("it is there", lambda: machine.is_up(name))
    frozen = machine.pid(name)
    machine.signal(name, signal.SIGSTOP)
    machine.until("it is another", lambda: machine.pid(name) not in (0, frozen), within_s)
    machine.until("it is there again", lambda: machine.is_up(name))


def test_the_kernel_gives_fenced_and_carpd_what_their_units_ask_for(machine: Machine) -> None:
    for name in (FENCED, CARPD, WATCH):
        assert "SCHED_RR" in machine.run("chrt", "-p", str(machine.pid(name))).stdout
    starts = [line for line in machine.log().splitlines() if " event=start " in line]
    for process, got in (("fenced", "SCHED_RR 20"), ("carpd", "SCHED_RR 40"), ("fenced-watch", "SCHED_RR 20")):
        assert any(f"process={process} " in line and f"{got}, memory locked" in line for line in starts)


def test_a_restart_of_the_daemon_hands_nothing_over_and_a_stop_of_all_does(machine: Machine) -> None:
    machine.systemctl("restart", MIDDLEWARED)
    assert "nothing to hand over" not in machine.log()
    machine.until("the daemon is there", lambda: machine.is_up(MIDDLEWARED))
    machine.systemctl("stop", "middlewared.target")
    machine.until("all is stopped", lambda: [name for name in SERVICES if machine.is_up(name)] == [])
    assert "This controller is SINGLE: there is nothing to hand over." in machine.log()
    assert machine.runs
    machine.systemctl("start", "middlewared.target")
    machine.until("everything is up", lambda: all(machine.is_up(name) for name in SERVICES))


def test_a_fenced_that_does_not_come_back_reboots_the_controller(machine: Machine) -> None:
    machine.run("sh", "-c", "echo nonsense > /etc/middlewared.toml")
    killed = time.monotonic()
    machine.signal(FENCED, signal.SIGKILL)
    machine.until("it rebooted", lambda: not machine.runs, 5.0)
    assert time.monotonic() - killed >= 1.0


def test_a_controller_whose_boot_file_is_bad_stays_up_and_comes_back_by_itself_once_it_is_mended(
    tmp_path: Path,
) -> None:
    need_systemd()
    with Machine(tmp_path / "machine", "node = 3\n") as machine:
        machine.plug("il0")
        machine.until("each daemon was tried twice", lambda: all(_tries(machine, name) > 1 for name in DAEMONS))
        assert machine.runs
        machine.run("sh", "-c", f"printf %s '{BOOT_FILE}' > /etc/middlewared.toml")
        machine.until("everything is up", lambda: all(machine.is_up(name) for name in SERVICES))


def _tries(machine: Machine, name: str) -> int:
    return int(machine.property(name, "NRestarts"))


def test_setup_makes_a_controller_of_a_machine_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    need_systemd()
    (tmp_path / "password").write_text("correct horse\n")
    words = ("--yes", "--node", "B", "--interlink", "il0", "--address", "other:192.0.2.7/24", "--gateway", "192.0.2.1")
    argv = ("middlewared", "setup", *words, "--password-file", str(tmp_path / "password"))
    with Machine(tmp_path / "machine", None) as machine:
        machine.plug("il0")
        done = machine.run(*argv)
        assert done.returncode == 0, done.stderr
        assert all(machine.is_up(name) for name in SERVICES)
        assert machine.systemctl("is-enabled", "middlewared.target").strip() == "enabled"
        assert machine.run("systemctl", "is-enabled", "zfs-import.target").stdout.strip() == "masked"
        shown = machine.run("ip", "-o", "addr").stdout
        assert "169.254.10.2/24" in shown
        assert "192.0.2.7/24" in shown
        assert machine.run("midclt", "call", "user.has_local_administrator_set_up").stdout == "True\n"
        assert '"ipv4gateway":"192.0.2.1"' in machine.run("midclt", "call", "network.configuration.config").stdout
        before = {name: machine.pid(name) for name in DAEMONS}
        again = machine.run(*argv)
        assert again.returncode == 0, again.stderr
        assert "the units stay" in again.stderr
        assert {name: machine.pid(name) for name in DAEMONS} == before
        refused = machine.run("middlewared", "setup", "--yes", "--gateway", "here")
        assert (refused.returncode, "--gateway: 'here' is not an IP address" in refused.stderr) == (1, True)
        other = machine.run("middlewared", "setup", "--yes", "--peer", "169.254.10.9", "--no-pairing")
        assert other.returncode == 0, other.stderr
        assert "the daemons are started anew" in other.stderr
        assert not before.items() & {name: machine.pid(name) for name in DAEMONS}.items()
        assert 'peer = "169.254.10.9"' in machine.run("cat", "/etc/middlewared.toml").stdout
        assert 'peer = "169.254.10.1"' in machine.run("cat", "/etc/middlewared.toml.old").stdout
