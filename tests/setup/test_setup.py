"""Two machines become a pair by `middlewared setup` at their consoles, in a lab whose pid 1 stands for systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from middlewared.kernel.facts import Node
from middlewared.lab import programs
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.lab.layout import PREFIX, VHID, VIP, Layout
from tests.setup.terminal import Terminal

LAB = (sys.executable, "-m", "middlewared.lab.command")
PASSWORD = "correct horse"

pytestmark = [pytest.mark.root, pytest.mark.full]


@pytest.fixture(scope="module")
def lab() -> Iterator[Pair]:
    """Two controllers with their boot files and their daemons, and nothing more."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    directory = Path(tempfile.mkdtemp(prefix="mws-", dir="/tmp"))
    unset = msgspec.structs.replace(programs.ours(Layout(directory), {}), set_up=False)
    (directory / "programs.json").write_bytes(msgspec.json.encode(unset))
    pair = Pair(directory)
    try:
        argv = [*LAB, "up", "--detach", "--dir", str(directory), "--stand-ins", str(directory / "programs.json")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        for node in NODES:
            pair.wait_until("its API answers", partial(_stands_alone, pair, node), within_s=15)
        yield pair
    finally:
        pair.down(wipe=True)
        shutil.rmtree(directory, ignore_errors=True)


def _stands_alone(pair: Pair, node: Node) -> bool:
    return pair.role(node) == "SINGLE"


def console(lab: Pair, node: Node, *options: str, term: str = "dumb") -> Terminal:
    argv = ("exec", "--dir", str(lab.layout.dir), node, "--", "middlewared", "setup", "--no-units", *options)
    return Terminal([*LAB, *argv], term)


def test_a_bad_answer_is_told_and_asked_for_again_and_an_interrupt_changes_nothing(lab: Pair) -> None:
    with console(lab, "A", "--interlink", "il0") as person:
        person.expect("A or B? [A]")
        person.type("C")
        person.expect("A or B\n")
        person.type("")
        person.expect("This controller's address on it: [169.254.10.1/24]")
        person.type("169.254.10.300")
        person.expect("is not ADDRESS/PREFIX")
        person.type("")
        person.expect("The other controller's: [169.254.10.2]")
        person.type("192.0.2.9")
        person.expect("must lie in 169.254.10.0/24")
        person.expect("The other controller's: [169.254.10.2]")
        person.interrupt()
        person.expect("Nothing was changed.")
        assert person.end() == 130
    assert lab.call("A", "user.has_local_administrator_set_up") is False


def test_without_a_yes_nothing_is_done(lab: Pair) -> None:
    password = lab.layout.dir / "A" / "password"
    password.write_text(PASSWORD + "\n")
    with console(lab, "A", "--interlink", "il0", "--password-file", str(password)) as person:
        for question in ("A or B?", "address on it", "The other controller's", "own address", "show a code?"):
            person.expect(question)
            person.type("")
        person.expect("This will be done:")
        plan = person.expect("Go on? [n]")
        assert "/etc/middlewared.toml stays as it is" in plan
        assert "the administrator admin is made" in plan
        person.type("")
        person.expect("Nothing was changed.")
        assert person.end() == 1
    assert lab.call("A", "user.has_local_administrator_set_up") is False


def test_the_first_makes_its_administrator_and_shows_a_code_and_the_second_joins_with_it(lab: Pair) -> None:
    with console(lab, "A", term="xterm") as first:
        for question in ("A or B?", "cable to the other", "address on it", "The other controller's", "own address"):
            first.expect(question)
            first.type("")
        first.expect("show a code? [n]")
        first.type("")
        first.expect("Name of the first administrator: [admin]")
        first.type("root2")
        first.expect("Password of root2:")
        first.type(PASSWORD)
        first.expect("The same again:")
        first.type("something else")
        first.expect("These are not the same.")
        for prompt in ("Password of root2:", "The same again:"):
            first.expect(prompt)
            first.type(PASSWORD)
        first.expect("Go on?")
        first.type("y")
        first.expect("root2 may log in.")
        first.expect("within ten minutes:")
        code = first.expect("\n\n").strip() or first.expect("\n\n").strip()
        with console(lab, "B") as second:
            for question in ("A or B?", "cable to the other", "address on it", "The other controller's", "own address"):
                second.expect(question)
                second.type("")
            second.expect("show a code? [y]")
            second.type("")
            second.expect("The code:")
            second.type("not-a-code")
            second.expect("is not a pairing code")
            second.type(code)
            plan = second.expect("Go on?")
            assert "it joins the controller at 169.254.10.1" in plan
            second.type("y")
            second.expect("The two are a pair.")
            assert second.end() == 0
        first.expect("The two are a pair.")
        assert first.end() == 0
    assert PASSWORD not in first.seen
    lab.wait_until("A is active", lambda: (lab.role("A"), lab.role("B")) == ("MASTER", "BACKUP"), within_s=15)


def test_a_second_time_it_finds_everything_done(lab: Pair) -> None:
    for node in NODES:
        done = lab.execute(node, "middlewared", "setup", "--yes", "--no-units")
        assert done.returncode == 0, done.stderr
        assert "it is one of a pair already" in done.stderr
        assert "/etc/middlewared.toml stays as it is" in done.stderr


def test_a_gateway_of_the_pair_is_not_changed_by_setup_on_either(lab: Pair) -> None:
    for node in NODES:
        done = lab.execute(node, "middlewared", "setup", "--yes", "--no-units", "--gateway", "192.0.2.254")
        assert done.returncode == 1
        assert "--gateway: this controller is one of a pair, which has another" in done.stderr
    lab.call("A", "network.configuration.update", {"ipv4gateway": "192.0.2.254"})
    done = lab.execute("A", "middlewared", "setup", "--yes", "--no-units", "--gateway", "192.0.2.254")
    assert done.returncode == 0, done.stderr
    lab.call("A", "network.configuration.update", {"ipv4gateway": ""})


def test_a_controller_of_a_pair_cannot_become_the_other_one(lab: Pair) -> None:
    done = lab.execute(
        "A",
        "middlewared",
        "setup",
        "--yes",
        "--no-units",
        "--node",
        "B",
        "--interlink-address",
        "169.254.10.2",
        "--peer",
        "169.254.10.1",
    )
    assert done.returncode == 1
    assert "--node: this controller is A of a pair, and cannot become B" in done.stderr


def test_the_active_one_hands_over_before_it_is_shut_down_and_the_standby_has_nothing_to(lab: Pair) -> None:
    standby = lab.execute("B", "middlewared", "hand-over")
    assert (standby.returncode, standby.stderr) == (0, "This controller is BACKUP: there is nothing to hand over.\n")
    refused = lab.execute("A", "middlewared", "hand-over")
    assert (refused.returncode, refused.stderr) == (
        1,
        "middlewared: Failover is not available: NO_VIP, NO_CRITICAL_INTERFACES\n",
    )
    vip = {"address": VIP, "prefix": PREFIX, "interface": "eth0", "vhid": VHID}
    lab.call("A", "network.vip.update", vip)
    lab.wait_until("failover is available", lambda: lab.call("A", "failover.disabled.reasons") == [], within_s=10)
    active = lab.execute("A", "middlewared", "hand-over")
    assert (active.returncode, active.stderr) == (0, "The other controller is active.\n")
    lab.wait_until("B is active", lambda: (lab.role("A"), lab.role("B")) == ("BACKUP", "MASTER"), within_s=5)
