"""The programs that move a virtual IP and that ours is measured beside: keepalived and ucarp, as Debian has them.

They run in the controllers of a lab of their own that has nothing else in it, so that a power cut or a cut cable is the
same deed for all. A is preferred in all of them, as packaged: it takes the VIP back when it returns. Nobody starts them
again when they are killed: the package asks for no such thing. None is ever a service of the host.

The settings are those of the defaults and of the fastest that each accepts; a router that was killed leaves its VIP on
the interface, which `clear` takes away again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab import namespaces
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.lab.init import service_path
from middlewared.lab.layout import LAN, VIP

START_S = 15.0
END_S = 12.0
_ROUTER_ID = 51
_POLL_S = 0.01
_PRIORITY: dict[Node, int] = {"A": 150, "B": 100}
_ADVSKEW: dict[Node, int] = {"A": 0, "B": 100}


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of one program. command: for a node, with a directory for its files."""

    name: str
    program: str
    command: Callable[[Node, Path], list[str]]
    took_over_within_s: float


def keepalived(version: int, advert_s: float) -> Router:
    """VRRP. Three intervals and a skew of silence make B master."""

    def command(node: Node, directory: Path) -> list[str]:
        file = directory / "keepalived.conf"
        file.write_text(
            f"global_defs {{\n router_id {node}\n vrrp_version {version}\n}}\n"
            f"vrrp_instance lab {{\n state BACKUP\n interface eth0\n virtual_router_id {_ROUTER_ID}\n"
            f" priority {_PRIORITY[node]}\n advert_int {advert_s:g}\n"
            f" virtual_ipaddress {{\n  {VIP}/32 dev eth0\n }}\n}}\n"
        )
        files = [f"--{what}={directory / what}.pid" for what in ("pid", "vrrp_pid", "checkers_pid")]
        return ["keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={file}", *files]

    return Router(
        name=f"keepalived v{version} {advert_s:g} s",
        program="keepalived",
        command=command,
        took_over_within_s=4 * advert_s + 3,
    )


def ucarp() -> Router:
    """CARP, with the defaults of its manual page: advbase 1, dead after 3; B has an advskew, as the page advises."""

    def command(node: Node, directory: Path) -> list[str]:
        for script, verb in (("up", "add"), ("down", "del")):
            file = directory / f"{script}.sh"
            file.write_text(f"#!/bin/sh\nexec ip addr {verb} {VIP}/32 dev eth0\n")
            file.chmod(0o755)
        scripts = [f"--upscript={directory}/up.sh", f"--downscript={directory}/down.sh", "--shutdown"]
        election = ["--vhid=1", "--pass=secret", f"--addr={VIP}", f"--advskew={_ADVSKEW[node]}", "--preempt"]
        return ["ucarp", "--interface=eth0", f"--srcip={LAN[node]}", *election, *scripts]

    return Router(name="ucarp", program="ucarp", command=command, took_over_within_s=10.0)


ROUTERS = (keepalived(2, 1), keepalived(3, 0.1), keepalived(3, 0.01), ucarp())


def check() -> None:
    """Raises PortFailed where a program is not installed."""
    for program in sorted({router.program for router in ROUTERS}):
        if shutil.which(program, path=service_path()) is None:
            raise PortFailed(program, "is not installed (see packages-bench.txt; `make bench` installs it)")


def start(pair: Pair, router: Router, node: Node) -> None:
    """Run it on the controller, until it is stopped or the controller ends."""
    directory = pair.layout.machine(node) / "router"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    argv = [sys.executable, "-m", "middlewared.lab.command", "exec", node, "--dir", str(pair.layout.dir), "--"]
    with (directory / "log").open("ab") as log:
        # The controller is its owner: it ends with the controller, whose end ends the command that started it.
        subprocess.Popen(
            [*argv, *router.command(node, directory)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
        )
    _wait(f"{router.program} runs on {node}", lambda: bool(processes(pair, router, node)), START_S)


def processes(pair: Pair, router: Router, node: Node) -> list[int]:
    """Its processes on the controller, as seen from here; [] while the controller is off."""
    pid = pair.root_pid(node)
    return [member for member in namespaces.members(pid) if _program(member) == router.program] if pid else []


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def clear(pair: Pair, router: Router) -> None:
    """End it on both controllers and take away what it left."""
    for node in NODES:
        send(processes(pair, router, node), signal.SIGKILL)
    _wait(f"{router.program} ends", lambda: not any(processes(pair, router, node) for node in NODES), END_S)
    for node in NODES:
        pair.execute(node, "ip", "addr", "del", f"{VIP}/32", "dev", "eth0")


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _wait(what: str, condition: Callable[[], bool], within_s: float) -> None:
    limit = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > limit:
            raise PortFailed(what, f"not within {within_s:g} s")
        time.sleep(_POLL_S)
