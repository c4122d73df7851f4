"""A pair of real fenced processes on a real shelf, with stand-ins for carpd, middlewared and the cables between them.

The stand-ins speak the hub's socket. One `World` carries each controller's signs to the other as carpd would, and a
test cuts and heals what it likes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from middlewared.kernel.facts import Node, PairRecord
from middlewared.protocol import hub
from middlewared.shell.hub_client import HubClient

SETTLE_S = 1.0
LEASE_S = 0.5
HELD_S = 0.7
REPORT_S = 0.03
DISKS = 5
"""Of the shelf; the first ones vote."""
FENCED = Path(__file__).with_name("short_lease.py")
IN_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def a_setting(**changes: object) -> hub.Settings:
    settings = hub.Settings(
        paired=True,
        cluster_id="c",
        key=b"k" * 32,
        disabled=False,
        default_node="A",
        timeout_s=0.0,
        single_term=7,
        vips=(),
    )
    return msgspec.structs.replace(settings, **changes)


class Controller:
    """One controller: its fenced, and the stand-ins for the other two processes."""

    def __init__(self, node: Node, directory: Path, voters: int) -> None:
        self.node: Node = node
        self.run_dir = directory / f"run{node}"
        self.run_dir.mkdir()
        (directory / f"data{node}").mkdir()
        self.config = directory / f"{node}.toml"
        paths = ", ".join(f'"{directory}/{node}/{disk}"' for disk in range(voters))
        others = ", ".join(f'"{directory}/{node}/{disk}"' for disk in range(voters, DISKS))
        self.config.write_text(
            f'node = "{node}"\nrun_dir = "{self.run_dir}"\ndata_dir = "{directory}/data{node}"\n'
            f'[interlink]\ninterface = "il0"\naddress = "169.254.10.{1 if node == "A" else 2}"\n'
            f'peer = "169.254.10.{2 if node == "A" else 1}"\n'
            + (f'[voters]\nbackend = "shelf"\npaths = [{paths}]\nothers = [{others}]\n' if voters else "")
            + f"[timing]\nsettle_s = {SETTLE_S}\nlease_s = {LEASE_S}\nheld_s = {HELD_S}\n"
            "renew_s = 0.1\nstall_s = 0.3\n"
        )
        self.settings = a_setting()
        self.middlewared_runs = True
        self.links_up = True
        self.links_since = boottime()
        self.carrier = True
        self.carrier_since = boottime()
        self.frozen = False
        self.seen: list[hub.Standing] = []
        self.to_carpd: list[hub.FromFenced] = []
        self.written: list[hub.Written] = []
        self.interlink_at: float | None = None
        self.advert_at: float | None = None
        self.peer_word: hub.PeerWord | None = None
        self.since = boottime()
        self.fenced: subprocess.Popen[bytes] | None = None
        self._vip_up = False
        self._clients: list[HubClient] = []
        self._tasks: list[asyncio.Task[None]] = []

    # The processes

    def start(self) -> None:
        log = (self.run_dir / "fenced.log").open("ab")
        command = [sys.executable, str(FENCED), "--config", str(self.config)]
        self.fenced = subprocess.Popen(command, stderr=log)
        log.close()

    def attach(self) -> None:
        """The stand-ins connect, as the real processes do, and connect again after each loss."""
        path = f"{self.run_dir}/fenced.sock"
        self.carpd = HubClient(path, "carpd", on_message=self._to_carpd, on_up=lambda: None, on_down=lambda why: None)
        self.middlewared = HubClient(
            path, "middlewared", on_message=self._to_middlewared, on_up=self._state_settings, on_down=lambda why: None
        )
        self._clients = [self.carpd, self.middlewared]
        self._tasks = [asyncio.create_task(client.run()) for client in self._clients]

    def kill(self) -> None:
        assert self.fenced is not None
        self.fenced.kill()
        self.fenced.wait(10)

    def freeze(self) -> None:
        assert self.fenced is not None
        self.frozen = True
        self.fenced.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.fenced is not None
        self.fenced.send_signal(signal.SIGCONT)
        self.frozen = False

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.fenced is not None:
            self.fenced.kill()
            self.fenced.wait(10)

    def log(self) -> str:
        return (self.run_dir / "fenced.log").read_text()

    # What fenced says

    @property
    def standing(self) -> hub.Standing | None:
        return self.seen[-1] if self.seen else None

    @property
    def role(self) -> str:
        return self.standing.role if self.standing is not None else "SILENT"

    @property
    def term(self) -> int:
        assert self.standing is not None
        return self.standing.term

    def owns(self) -> bool:
        return self.role == "OWNER"

    def stands_by(self) -> bool:
        return self.role == "STANDBY"

    def _to_carpd(self, message: hub.FromFenced) -> None:
        self.to_carpd.append(message)
        if isinstance(message, hub.Standing):
            self.seen.append(message)
            self._vip_up = message.serves
            self.carpd.send(self._carp())

    def _to_middlewared(self, message: hub.FromFenced) -> None:
        if isinstance(message, hub.Written):
            self.written.append(message)

    def _state_settings(self) -> None:
        if self.middlewared_runs:
            self.middlewared.send(self.settings)

    def configure(self, **changes: object) -> None:
        self.settings = a_setting(**changes)
        self._state_settings()

    # What carpd would say

    def _carp(self) -> hub.Carp:
        state = hub.CarpState(
            vhid=1,
            address="192.0.2.10",
            state="MASTER" if self._vip_up else "BACKUP",
            since=0.0,
            rivals=0,
            rejected=0,
            why="",
        )
        return hub.Carp(vips=(state,), scheduling="")

    @property
    def vip_up(self) -> bool:
        return self._vip_up and not self.frozen

    def word(self, hears_us: bool) -> hub.PeerWord:
        s = self.standing
        return hub.PeerWord(
            boot_id=f"boot-{self.node}",
            term=s.term if s is not None else 0,
            owner=s is not None and s.role == "OWNER",
            links_up=self.links_up,
            hears_us=hears_us,
            settled=s is not None and s.settled,
            resigned=s is not None and s.resigned,
            disks_ok=s is None or s.disks_ok,
            failed=s is not None and s.failed is not None,
            held=s is not None and s.held,
            flapping=s is not None and s.flapping,
            voting=s.voting if s is not None else 0,
        )

    def report(self) -> None:
        if self.frozen or not self._clients:
            return
        self.carpd.send(
            hub.Heard(
                since=self.since,
                interlink_at=self.interlink_at,
                advert_at=self.advert_at,
                carrier=self.carrier,
                carrier_since=self.carrier_since,
                links_up=self.links_up,
                links_since=self.links_since,
                peer=self.peer_word,
            )
        )

    def lose_links(self) -> None:
        self.links_up, self.links_since = False, boottime()


class World:
    """Two controllers, the shelf, and the cables between the controllers."""

    def __init__(self, directory: Path, voters: int = 3) -> None:
        self.directory = directory
        for name in ("state", "A", "B"):
            (directory / name).mkdir()
        self.a = Controller("A", directory, voters)
        self.b = Controller("B", directory, voters)
        self.interlink = True
        self.lan = True
        command = [sys.executable, "-m", "middlewared.lab.shelf", f"{directory}/state", "--disks", str(DISKS)]
        command += ["--node", f"A={directory}/A", "--node", f"B={directory}/B", "--control", f"{directory}/control"]
        self._shelf = subprocess.Popen(command)
        self._carrying: asyncio.Task[None] | None = None

    async def up(self) -> None:
        await until((self.directory / "control").exists, 10, "the shelf is up")
        self._carrying = asyncio.create_task(self._carry())

    async def boot(self) -> None:
        """Both controllers run, A owns, B stands by."""
        for controller in (self.a, self.b):
            controller.start()
            controller.attach()
        await until(self.a.owns, 10, "A owns")
        await until(lambda: self.b.stands_by() and self.b.term == self.a.term, 5, "B stands by")

    async def end(self) -> None:
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.gather(self._carrying, return_exceptions=True)
        await self.a.end()
        await self.b.end()
        self._shelf.kill()
        self._shelf.wait(10)

    async def shelf(self, **order: object) -> dict[str, object]:
        reader, writer = await asyncio.open_unix_connection(f"{self.directory}/control")
        try:
            writer.write(msgspec.json.encode(order) + b"\n")
            async with asyncio.timeout(5):
                answer: dict[str, object] = msgspec.json.decode(await reader.readline())
        finally:
            writer.close()
        assert answer["ok"] is True, answer
        return answer

    def part(self) -> None:
        """No network between the two any more; carriers stay."""
        self.interlink = self.lan = False

    async def _carry(self) -> None:
        while True:
            for here, there in ((self.a, self.b), (self.b, self.a)):
                if self.interlink and not there.frozen and there.fenced is not None:
                    here.interlink_at = boottime()
                    here.peer_word = there.word(hears_us=not here.frozen)
                if self.lan and there.vip_up:
                    here.advert_at = boottime()
                if here.fenced is not None:
                    here.report()
            await asyncio.sleep(REPORT_S)


async def until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Wait for the condition; how long that took. Fails after `within_s`, saying what did not come."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            pytest.fail(f"not within {within_s} s: {what}")
        await asyncio.sleep(0.002)
    return time.monotonic() - began


async def holds_for(condition: Callable[[], bool], for_s: float, what: str) -> None:
    """The condition holds, and goes on holding, for so long."""
    began = time.monotonic()
    while time.monotonic() - began < for_s:
        assert condition(), f"after {time.monotonic() - began:.2f} s no more: {what}"
        await asyncio.sleep(0.005)


async def written(controller: Controller, record: PairRecord) -> hub.Written:
    """Have fenced write the record; what it answered."""
    id_ = len(controller.written) + 1000
    assert controller.middlewared.send(hub.Write(id=id_, record=record))
    await until(lambda: any(w.id == id_ for w in controller.written), 5, "Written came")
    return next(w for w in controller.written if w.id == id_)


def a_record(controller: Controller, *, in_sync: tuple[str, ...] = ("A", "B"), seq: int = 5) -> PairRecord:
    return msgspec.convert(
        {
            "term": controller.term,
            "owner": controller.node,
            "in_sync": in_sync,
            "committed_seq": seq,
            "committed_hash": "AQ==",
        },
        PairRecord,
        builtin_types=(),
    )


@pytest.fixture
def voters() -> int:
    """How many shared disks the boot files name."""
    return 3


@pytest.fixture
async def world(voters: int) -> AsyncIterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="mw-", dir=IN_MEMORY))
    world = World(directory, voters)
    try:
        await world.up()
        yield world
    finally:
        await world.end()
        for controller in (world.a, world.b):
            log = controller.run_dir / "fenced.log"
            if log.exists():
                os.write(2, b"--- fenced " + controller.node.encode() + b"\n" + log.read_bytes())
        shutil.rmtree(directory)
