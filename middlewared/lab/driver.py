"""A lab driven from Python: what tests and benches do to a pair, and what they ask it.

    pair = Pair(Path("/tmp/mine"))
    pair.up()
    pair.power_off("A")
    pair.wait_until("B is active", lambda: pair.role("B") == "MASTER", within_s=5)

Every wait has a bound. The verbs return when the fault is in force, see `bench.py`. To drive a lab that the command
line made, leave `up` out or call it: it finds a lab that is up.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from middlewared.client import OPTIONS, Connection, parse
from middlewared.kernel.errors import MiddlewareError, PortFailed
from middlewared.kernel.facts import Node, other
from middlewared.lab import namespaces, status, up, verbs
from middlewared.lab.faults import LINKS, NODES, Link, Way
from middlewared.lab.layout import Layout
from middlewared.lab.verbs import MachineName
from middlewared.protocol.rpc import Reply

Daemon: TypeAlias = Literal["fenced", "carpd", "middlewared"]

UP_TIMEOUT_S = 240.0
VERB_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
WHOLE_TIMEOUT_S = 15.0
_POLL_S = 0.02

# What each daemon's command line ends its program's name with, and the word after it.
_PROGRAMS: dict[Daemon, tuple[bytes, bytes]] = {
    "fenced": (b"/middlewared-fenced", b"--config"),
    "carpd": (b"/middlewared-carpd", b"--config"),
    "middlewared": (b"/middlewared", b"serve"),
}


class Quarantine(msgspec.Struct, frozen=True):
    count: int


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver reads of failover.sync.status."""

    term: int
    last_seq: int
    commit_seq: int
    applied_seq: int
    in_sync: tuple[Node, ...]
    peer_connected: bool
    peer_applied_seq: int
    config_behind: str | None
    state_digest: str
    digest_at_seq: int
    quarantine: Quarantine


class Pair:
    """The lab in `directory`. Raises PortFailed where the lab refuses, and what the API says where it does."""

    def __init__(self, directory: Path) -> None:
        self.layout = Layout(directory)
        self.result: up.Result

    # --- life ---

    def up(self, builds: Mapping[Node, Path] | None = None, stand_ins: Path | None = None) -> up.Result:
        """Bring it up, or find it up. builds, stand_ins: see `middlewared-lab up`."""
        words = [f"--build={node}={directory}" for node, directory in (builds or {}).items()]
        words += [f"--stand-ins={stand_ins}"] if stand_ins is not None else []
        done = self._lab("up", "--detach", *words, timeout_s=UP_TIMEOUT_S)
        if done.returncode != 0:
            raise PortFailed("bring the lab up", done.stderr.strip().rpartition("\n")[2])
        self.result = msgspec.json.decode(done.stdout.splitlines()[-1], type=up.Result)
        return self.result

    def down(self, *, wipe: bool = False) -> None:
        """End it; nothing is left running. wipe: remove the databases too."""
        done = self._lab("down", *(["--wipe"] if wipe else []), timeout_s=VERB_TIMEOUT_S)
        if done.returncode != 0:
            raise PortFailed("end the lab", done.stderr.strip())

    # --- faults ---

    def power_off(self, node: Node) -> None:
        self._ask(verbs.Power(node=node, on=False))

    def power_on(self, node: Node) -> None:
        self._ask(verbs.Power(node=node, on=True))

    def freeze(self, node: Node) -> None:
        self._ask(verbs.Freeze(node=node))

    def thaw(self, node: Node) -> None:
        self._ask(verbs.Thaw(node=node))

    def cut(self, *links: Link, way: Way = "both") -> None:
        for link in links:
            self._ask(verbs.Cut(link=link, way=way))

    def heal(self, *links: Link) -> None:
        for link in links:
            self._ask(verbs.Heal(link=link, way="both"))

    def kill(self, node: Node, daemon: Daemon) -> None:
        """kill -9, on the daemon alone; init starts it again."""
        os.kill(self.pid(node, daemon), signal.SIGKILL)

    def make_whole(self, owner: Node | None = None) -> None:
        """Undo every fault and wait until the pair is in sync; with `owner` active, where it is named."""
        for node, state in self.status().nodes.items():
            if state.frozen:
                self.thaw(node)
        self.mend()
        self.wait_until("the pair is whole", self.is_whole, WHOLE_TIMEOUT_S)
        if owner is not None and self.role(owner) != "MASTER":
            self.force_master(owner)
            self.wait_until(f"{owner} owns a whole pair", lambda: self.is_whole(owner), WHOLE_TIMEOUT_S)

    def mend(self) -> None:
        """Mend every cable and give both controllers power."""
        self.heal(*LINKS)
        for node in NODES:
            self.power_on(node)

    def force_master(self, node: Node) -> None:
        self.call(node, "failover.force_master")

    # --- questions ---

    def status(self) -> status.Lab:
        return msgspec.json.decode(self._ask(verbs.Status()), type=status.Lab)

    def role(self, node: Node) -> str | None:
        """What the controller says it is; None while it says nothing."""
        return self.status().nodes[node].role

    def vip_owner(self) -> str | None:
        """Whose kernel has the virtual IP: A, B, "both" or None."""
        return self.status().vip.owner

    def is_whole(self, owner: Node | None = None) -> bool:
        """One owner with the VIP, the other standby, both logs and states at the same place."""
        seen = self.status()
        masters = [node for node in NODES if seen.nodes[node].role == "MASTER"]
        if len(masters) != 1 or masters[0] != (owner or masters[0]):
            return False
        active, standby = masters[0], other(masters[0])
        if seen.nodes[standby].role != "BACKUP" or seen.vip.owner != active:
            return False
        sync = self.sync(active)
        return set(sync.in_sync) == set(NODES) and sync.peer_applied_seq == sync.commit_seq == sync.last_seq

    def sync(self, node: Node) -> Sync:
        return msgspec.convert(self.call(node, "failover.sync.status"), Sync)

    def call(self, node: Node, method: str, *params: object, timeout_s: float = CALL_TIMEOUT_S) -> object:
        """Ask one controller, as root on its unix socket; neither sent again nor elsewhere."""
        return asyncio.run(self._request(node, method, params, timeout_s)).result

    async def _request(self, node: Node, method: str, params: Sequence[object], timeout_s: float) -> Reply:
        address = parse(f"ws+unix://{self.layout.api_socket(node)}")
        connection = await Connection.open(address, OPTIONS, timeout_s)
        try:
            return await connection.request(method, params, timeout_s)
        finally:
            await connection.close()

    def pid(self, machine: MachineName, daemon: Daemon) -> int:
        """The daemon's process as this side sees it. Raises PortFailed while it does not run."""
        root = self.root_pid(machine)
        program, word = _PROGRAMS[daemon]
        for pid in namespaces.members(root):
            argv = _argv(pid)
            if any(a.endswith(program) and b == word for a, b in itertools.pairwise(argv)):
                return pid
        raise PortFailed(f"find {daemon} on {machine}", "it does not run at the moment")

    def root_pid(self, machine: MachineName) -> int:
        """Pid 1 of the machine as this side sees it; 0 while it is off."""
        return int(msgspec.json.decode(self._ask(verbs.Where(machine=machine)), type=int))

    def run(self, machine: MachineName, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command in the machine; what it printed. Raises PortFailed with what it said on stderr."""
        done = self.execute(machine, *argv, timeout_s=timeout_s)
        if done.returncode != 0:
            raise PortFailed(f"{argv[0]} on {machine}", done.stderr.strip() or f"exit status {done.returncode}")
        return done.stdout

    def execute(
        self, machine: MachineName, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, whatever comes of it."""
        return self._lab("exec", machine, "--", *argv, timeout_s=timeout_s)

    def wait_until(self, what: str, condition: Callable[[], bool], within_s: float) -> float:
        """Wait until it holds; how long that took, in seconds. A question that fails counts as no.

        Raises PortFailed with how the pair stands.
        """
        start = time.monotonic()
        said = ""
        while True:
            try:
                if condition():
                    return time.monotonic() - start
                said = ""
            except MiddlewareError as e:
                said = f"; the last answer: {e}"
            if time.monotonic() - start > within_s:
                seen = msgspec.json.encode(self.status()).decode()
                raise PortFailed(what, f"not within {within_s:g} s; {seen}{said}")
            time.sleep(_POLL_S)

    def _ask(self, verb: verbs.Verb) -> bytes:
        return verbs.ask(self.layout, verb, VERB_TIMEOUT_S, lambda _: None)

    def _lab(self, command: str, *words: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "middlewared.lab.command", command, "--dir", str(self.layout.dir), *words]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )


def _argv(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
