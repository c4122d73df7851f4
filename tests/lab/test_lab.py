"""The lab with stand-in daemons: real namespaces, cables, relay and init. Needs root."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from middlewared.lab import up
from middlewared.lab.cables import mac
from middlewared.lab.disks import DATA_BYTES
from middlewared.lab.down import members_of
from middlewared.lab.layout import Layout
from middlewared.protocol.slots import AREA_BYTES
from tests.lab.stand_ins import DEADLINE_S, STAND_INS, Lab, until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    lab = Lab()
    try:
        yield lab.bring_up()
    finally:
        lab.end()


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """The lab of this file, whole again after each test."""
    yield shared
    found = shared.status()
    for cut in found.cuts:
        shared.ok("heal", cut.split()[0])
    for node, state in found.nodes.items():
        if state.power == "off":
            shared.ok("power", node, "on")
        if state.frozen:
            shared.ok("thaw", node)


@pytest.fixture
def own() -> Iterator[Lab]:
    """A lab of the test's own, not up yet."""
    lab = Lab()
    yield lab
    lab.end()


def test_each_controller_answers_on_its_own_url_from_the_host(lab: Lab) -> None:
    assert lab.answers("A")
    assert lab.answers("B")


def test_the_virtual_ip_has_its_own_url_and_its_owner_is_in_status(lab: Lab) -> None:
    assert lab.status().vip.owner is None
    lab.inside("B", "ip addr add 192.0.2.10/24 dev eth0")
    try:
        assert lab.status().vip.owner == "B"
        with urllib.request.urlopen(f"{lab.up.vip_url}/middlewared.toml", timeout=3) as page:
            assert b'node = "B"' in page.read()
    finally:
        lab.inside("B", "ip addr del 192.0.2.10/24 dev eth0")


def test_exec_passes_stdin_and_the_exit_status_and_has_our_commands(lab: Lab) -> None:
    done = lab.run("exec", "A", "--", "sh", "-c", "cat; exit 7", stdin="through")
    assert (done.stdout, done.returncode) == ("through", 7)
    assert lab.inside("A", "echo $PATH").startswith(str(Path(sys.executable).parent))
    assert lab.run("exec", "B", "--", "no-such-command").returncode == 127
    assert lab.run("exec", "B", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_a_controller_has_its_own_etc_run_processes_hostname_and_links(lab: Lab) -> None:
    mark = f"written by a test {os.getpid()}"
    lab.inside("A", f"echo '{mark}' > /etc/motd; hostname changed; touch /run/mine")
    assert lab.inside("A", "cat /etc/motd; hostname") == f"{mark}\nchanged"
    assert mark not in lab.inside("B", "cat /etc/motd || true")
    assert not Path("/run/mine").exists()
    assert lab.inside("B", "hostname") == "controller-b"
    assert lab.inside("A", "tr '\\0' ' ' < /proc/1/cmdline").count("middlewared.lab.init") == 1
    assert lab.inside("A", "ls /sys/class/net").split() == ["eth0", "eth1", "il0", "lo"]
    assert lab.inside("A", "ls -d /run/middleware /run/shelf").split() == ["/run/middleware", "/run/shelf"]


def test_power_off_drops_the_peer_s_interlink_and_is_seen_in_status(lab: Lab) -> None:
    lab.ok("power", "A", "off")
    lab.ok("power", "A", "off")
    shown = json.loads(lab.ok("status", "--json"))["nodes"]["A"]
    assert shown == {"power": "off", "frozen": False, "role": None, "term": None, "log": None}
    assert (lab.carrier("B", "il0"), lab.carrier("B", "eth0")) == ("0", "1")
    assert lab.run("exec", "A", "--", "true").returncode == 125
    assert not lab.answers("A")
    lab.ok("heal", "interlink")
    assert lab.carrier("B", "il0") == "0"
    lab.ok("power", "A", "on")
    lab.ok("power", "A", "on")
    assert lab.carrier("B", "il0") == "1"
    until("A serves again", lambda: lab.answers("A"))


def test_nothing_leaves_a_controller_that_loses_power(lab: Lab) -> None:
    """A connection from B to A stays as it was: neither a FIN nor an RST ends it."""
    script = (
        "import socket, sys; s = socket.create_connection(('192.0.2.1', 80)); print('open', flush=True);"
        "s.settimeout(1.0)\n"
        "try: print(repr(s.recv(1)))\n"
        "except TimeoutError: print('silence')"
    )
    process = lab.start("exec", "client", "--", sys.executable, "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    lab.ok("power", "A", "off")
    assert process.communicate(timeout=DEADLINE_S)[0] == "silence\n"


def test_a_frozen_controller_keeps_its_links_and_its_kernel_and_goes_on_after_a_thaw(lab: Lab) -> None:
    running = lab.start("exec", "A", "--", "sh", "-c", "echo up; sleep 0.3; exit 5")
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    lab.ok("freeze", "A")
    lab.ok("freeze", "A")
    assert lab.status().nodes["A"].frozen
    assert lab.reaches("client", "192.0.2.1")
    assert lab.inside("A", "grep -h State /proc/1/status").startswith("State:\tT")
    assert not lab.answers("A")
    lab.ok("thaw", "A")
    lab.ok("thaw", "A")
    until("A answers again", lambda: lab.answers("A"))
    assert running.wait(DEADLINE_S) == 5


def test_a_cut_lan_takes_the_carrier_and_the_interlink_goes_on(lab: Lab) -> None:
    lab.ok("cut", "lan:A")
    lab.ok("cut", "lan:A")
    assert lab.carrier("A", "eth0") == "0"
    assert lab.reaches("B", "169.254.10.1")
    assert lab.status().cuts == ("lan:A",)
    lab.ok("heal", "lan:A")
    assert lab.carrier("A", "eth0") == "1"


def test_a_cut_interlink_takes_the_carrier_at_both_ends(lab: Lab) -> None:
    lab.ok("cut", "interlink")
    assert (lab.carrier("A", "il0"), lab.carrier("B", "il0")) == ("0", "0")
    assert lab.reaches("B", "192.0.2.1")


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_one_way_cut_keeps_carrier_and_drops_the_frames_of_one_direction(lab: Lab, way: str) -> None:
    # With fixed neighbours no ARP is needed, so that frames of one direction are enough for a datagram.
    for machine, address, port in (("client", "192.0.2.1", "sA"), ("A", "192.0.2.100", "sC")):
        lab.inside(machine, f"ip neigh replace {address} lladdr {mac(port)} dev eth0 nud permanent")
    lab.ok("cut", "lan:A", "--one-way", way)
    assert lab.carrier("A", "eth0") == "1"
    heard = (lab.hears("A", "192.0.2.1", "client"), lab.hears("client", "192.0.2.100", "A"))
    assert heard == ((False, True) if way == "in" else (True, False))
    lab.ok("heal", "lan:A")
    assert lab.hears("A", "192.0.2.1", "client")
    assert lab.hears("client", "192.0.2.100", "A")


def test_a_cut_shelf_shrinks_the_controller_s_disks_and_the_peer_s_stay(lab: Lab) -> None:
    size = "for n in 0 1 2 3 4 5; do blockdev --getsize64 /dev/slots/$n /dev/shelf/$n; done"
    whole = [str(AREA_BYTES), str(DATA_BYTES)] * 6
    lab.ok("cut", "shelf:A")
    assert lab.inside("A", size).split() == ["512"] * 12
    assert lab.inside("B", size).split() == whole
    lab.ok("heal", "shelf:A")
    assert lab.inside("A", size).split() == whole


def test_a_daemon_that_is_shot_is_started_again_at_once(lab: Lab) -> None:
    pid = lab.inside("A", "pgrep -x sleep")
    shot = time.monotonic()
    lab.inside("A", f"kill -9 {pid}")
    until("it runs again", lambda: lab.run("exec", "A", "--", "pgrep", "-x", "sleep").returncode == 0)
    assert time.monotonic() - shot < 2.0
    assert lab.inside("A", "pgrep -x sleep") != pid


def test_a_daemon_that_falls_silent_is_killed_and_started_again(lab: Lab) -> None:
    log = lab.dir / "A" / "log" / "init.log"
    lab.inside("A", f"touch {lab.dir}/A/hush")
    until("the watchdog fires", lambda: "beating killed: it said nothing for 0.6 s" in log.read_text())
    lab.inside("A", f"rm {lab.dir}/A/hush")
    until("it beats again", lambda: log.read_text().rfind("beating started") > log.read_text().rfind("beating killed"))


def test_a_controller_that_loses_a_vital_daemon_for_good_reboots_by_itself(lab: Lab) -> None:
    boot = "stat -c %i /proc/1/ns/pid"
    before = lab.inside("B", boot)
    lab.inside("B", f"touch {lab.dir}/B/broken; kill -9 $(pgrep -x sleep)")
    until("B ends itself", lambda: lab.boots("B"))
    (lab.dir / "B" / "broken").unlink()
    until("B boots again", lambda: not lab.boots("B"))
    assert lab.inside("B", boot) != before
    assert lab.status().nodes["B"].power == "on"
    until("B answers", lambda: lab.answers("B"))


def test_a_controller_cuts_the_other_s_power_which_then_boots(lab: Lab) -> None:
    power = (
        "import asyncio; from middlewared.shell.lab_power import LabPower; p = LabPower('/run/bmc/power');"
        "print(asyncio.run(p.is_on()), asyncio.run(p.power_off()), asyncio.run(p.is_on()))"
    )
    lab.ok("freeze", "B")
    assert lab.inside("A", f'{sys.executable} -c "{power}"') == "True None False"
    assert lab.boots("B")
    until("B boots again", lambda: not lab.boots("B"))
    until("B answers", lambda: lab.answers("B"))
    lab.ok("power", "B", "off")
    assert lab.inside("A", f'{sys.executable} -c "{power}"') == "False None False"
    time.sleep(1.5)  # longer than it would take to boot: what was off before stays so
    assert lab.status().nodes["B"].power == "off"


def test_up_again_says_the_same(lab: Lab) -> None:
    out = lab.ok("up", "--detach")
    assert msgspec.json.decode(out.splitlines()[-1], type=up.Result) == lab.up


def test_a_killed_bench_leaves_nothing_that_down_does_not_find(own: Lab) -> None:
    own.bring_up()
    assert len(members_of(Layout(own.dir))) > 5
    os.kill(own.bench(), signal.SIGKILL)
    own.ok("down")
    assert members_of(Layout(own.dir)) == []
    assert [p for p in Path("/sys/block").glob("loop*/loop/backing_file") if str(own.dir) in p.read_text()] == []
    assert not (own.dir / "lab.sock").exists()
    own.ok("down")


def test_two_labs_stand_side_by_side_and_end_alone(lab: Lab, own: Lab) -> None:
    own.bring_up()
    own.ok("power", "A", "off")
    own.ok("down")
    assert members_of(Layout(own.dir)) == []
    assert lab.answers("A")
    assert lab.status().nodes["A"].power == "on"


def test_the_foreground_shows_the_lab_and_an_interrupt_ends_it(own: Lab) -> None:
    process = own.start("up", "--stand-ins", str(own.dir / "programs.json"))
    assert process.stderr is not None
    try:
        shown = iter(process.stderr.readline, "")
        assert any("A silent" in line and "virtual IP 192.0.2.10 on nobody" in line for line in shown)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 0
    assert members_of(Layout(own.dir)) == []


def test_a_lab_that_cannot_come_up_says_why_and_leaves_nothing(own: Lab) -> None:
    programs = msgspec.structs.replace(STAND_INS, shelf=("false",))
    (own.dir / "programs.json").write_bytes(msgspec.json.encode(programs))
    done = own.run("up", "--detach", "--stand-ins", str(own.dir / "programs.json"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("middlewared-lab: lab: start the shelf: ")
    assert done.stdout == ""
    assert members_of(Layout(own.dir)) == []
