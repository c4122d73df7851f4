"""Numbered writes on whichever controller has the pool, and what a client on the LAN was told of them.

    with Writer(pair) as writer:
        writer.wait_for("A")
        pair.power_off("A")
        writer.wait_for("B")

Runs `appender.py` on both controllers and `hearer.py` on the client. A controller that was booted meanwhile must be
given its appender again (`start`).
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.lab.layout import CLIENT_LAN, VIP
from middlewared.lab.verbs import MachineName
from tests.failover.appender import FILE
from tests.failover.records import Told, Verdict, check, parse, read, turns

MOUNT = "/mnt/tank"
PORT = 7070
_HERE = Path(__file__).parent
_POLL_S = 0.001


class Writer:
    """told: every acknowledgement that the client heard, in the order of their arrival."""

    def __init__(self, pair: Pair) -> None:
        self.told: list[Told] = []
        self._pair = pair
        self._processes: dict[MachineName, subprocess.Popen[str]] = {}
        self._ready = threading.Event()

    def __enter__(self) -> Writer:
        hearer = self._run("client", "hearer.py", CLIENT_LAN, str(PORT))
        self._reader = threading.Thread(target=self._read, args=(hearer,), daemon=True)
        self._reader.start()
        if not self._ready.wait(10):
            raise PortFailed("hear what is acknowledged", "the client's process did not start within 10 s")
        for node in NODES:
            self.start(node)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            _end(process)
        self._reader.join(5)

    def start(self, node: Node) -> None:
        """Let the controller write where it can, from now on."""
        if node in self._processes:
            _end(self._processes[node])
        self._run(node, "appender.py", MOUNT, VIP, node, CLIENT_LAN, str(PORT))

    def last(self, node: Node) -> int | None:
        """When the client heard the node last, in ns of the monotonic clock; of late, or None."""
        return next((told.at_ns for told in reversed(self.told[-5000:]) if told.record.node == node), None)

    def first_after(self, node: Node, at_ns: int) -> int | None:
        """When the client heard the node first after that time."""
        first = None
        for told in reversed(self.told):
            if told.at_ns < at_ns:
                break
            if told.record.node == node:
                first = told.at_ns
        return first

    def wait_for(self, node: Node, within_s: float = 30.0) -> int:
        """Wait until a write by the node is acknowledged that began from now on; when the client heard it, in ns.

        Raises PortFailed.
        """
        since, limit = time.monotonic_ns(), time.monotonic() + within_s
        while (heard := self.first_after(node, since)) is None:
            if time.monotonic() > limit:
                how = self._pair.status()
                raise PortFailed(f"{node} writes to the pool", f"not within {within_s:g} s; {how}")
            time.sleep(_POLL_S)
        return heard

    def verdict(self, node: Node) -> tuple[Verdict, list[Node]]:
        """The file as the node reads it now, held against what was told until now; and who wrote, turn by turn."""
        told = list(self.told)
        text = self._pair.run(node, "cat", f"{MOUNT}/{FILE}")
        return check(told, text), turns(read(text)[0])

    def _run(self, machine: MachineName, program: str, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "middlewared.lab.command", "exec", machine, "--dir", str(self._pair.layout.dir)]
        argv += ["--", sys.executable, str(_HERE / program), *words]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self._processes[machine] = process
        return process

    def _read(self, hearer: subprocess.Popen[str]) -> None:
        assert hearer.stdout is not None
        for line in hearer.stdout:
            at_ns, _, said = line.strip().partition(" ")
            if said == "ready":
                self._ready.set()
            else:
                self.told.append(Told(int(at_ns), parse(said)))


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
