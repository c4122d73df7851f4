"""Two machines under a real systemd as a pair, from setup to the orderly shutdown of the active one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from middlewared.kernel.facts import Node
from middlewared.setup.units import SERVICES
from tests.setup.machine import Machine
from tests.setup.test_systemd import need_systemd

pytestmark = pytest.mark.full

NUMBERS: dict[Node, int] = {"A": 1, "B": 2}


def boot_file(node: Node, shelf: Path) -> str:
    """What is not asked for by setup: the disks, and a shorter wait at boot."""
    paths = ", ".join(f'"{shelf}/{node}/{disk}"' for disk in range(3))
    return f'node = "{node}"\n[voters]\nbackend = "shelf"\npaths = [{paths}]\n[timing]\nsettle_s = 2.0\n'


@contextlib.contextmanager
def shelf(directory: Path) -> Iterator[None]:
    cables = [f"--node={node}={directory}/{node}" for node in NUMBERS]
    for node in NUMBERS:
        (directory / node).mkdir(parents=True)
    argv = [sys.executable, "-m", "middlewared.lab.shelf", str(directory), *cables, f"--control={directory}/control"]
    process = subprocess.Popen(argv)
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[Node, Machine]]:
    """Not set up yet: nothing but the boot file's disks. Short names, since sockets lie below them."""
    need_systemd()
    with contextlib.ExitStack() as stack:
        stack.enter_context(shelf(tmp_path / "s"))
        made = {node: stack.enter_context(Machine(tmp_path / node, None)) for node in NUMBERS}
        for node, machine in made.items():
            machine.run("sh", "-c", f"echo '{boot_file(node, tmp_path / 's')}' > /etc/middlewared.toml")
        for interface in ("eth0", "il0"):
            made["A"].plug(interface, made["B"])
        yield made


def call(machine: Machine, method: str, *params: object) -> Any:
    done = machine.run("midclt", "--json", "call", method, *map(json.dumps, params))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_in(machine: Machine, status: str) -> bool:
    done = machine.run("midclt", "call", "failover.status")
    return done.stdout.strip() == status


def set_up(machines: dict[Node, Machine], node: Node, *more: str) -> None:
    own = f"eth0:192.0.2.{NUMBERS[node]}/24"
    done = machines[node].run("middlewared", "setup", "--yes", "--interlink", "il0", "--address", own, *more)
    assert done.returncode == 0, done.stderr


def test_two_machines_become_a_pair_and_the_active_one_hands_over_when_it_is_powered_off(
    machines: dict[Node, Machine],
) -> None:
    a, b = machines["A"], machines["B"]
    set_up(machines, "A")
    set_up(machines, "B", "--join", a.run("middlewared", "pair").stdout.strip())
    a.until("A is active", lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
    a.until("all is up", lambda: all(each.is_up(name) for each in (a, b) for name in SERVICES))
    call(a, "network.vip.update", {"address": "192.0.2.10", "prefix": 24, "interface": "eth0", "vhid": 1})
    a.until("failover is available", lambda: call(a, "failover.disabled.reasons") == [])
    assert "192.0.2.10" in a.run("ip", "-o", "addr").stdout

    a.systemctl("start", "--no-block", "--job-mode=replace-irreversibly", "poweroff.target")
    b.until("B is active", partial(is_in, b, "MASTER"))
    b.until("A is off", lambda: not a.runs)
    shown = b.run("middlewared", "log", "show", "--json").stdout
    terms = [event for event in map(json.loads, shown.splitlines()) if event["kind"] == "term.begin"]
    assert terms[-1]["payload"]["reason"].startswith("A gave its term up")
