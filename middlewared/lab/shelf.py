"""The shelf: shared disks that two controllers reach by separate cables, in one process outside both.

    python -m middlewared.lab.shelf DIR --disks 3 --node A=SOCKETDIR --node B=SOCKETDIR --control SOCKET
        [--port A/0=/dev/loop0 --port B/0=/dev/loop1 ...]

Each disk is a register (kernel/register.py) in DIR/disk<N>.state. Each controller has a cable to each disk: the unix
socket SOCKETDIR/<N>, which speaks protocol/shelf.py. Who asks is known by the cable, so a controller cannot claim as
the other.

A change is written to a new file, fsynced, renamed and the directory fsynced before it is answered; changes that wait
while that happens share the next write. A state file that is damaged, or missing beside others, is never taken for an
empty disk: that disk is not served. So is one whose write failed: nobody knows what it holds.

Where a disk has devices (`--port`), they follow the register before a change of it is answered, and from the start on:
who does not hold the disk cannot write it (disk_ports.py). A disk whose ports do not follow is not served any more.

The control socket takes one JSON object a line and answers each when the fault is in force; every verb is idempotent.

    {"verb": "cut", "node": "A", "way": "both"}   close A's cables and refuse new connections
    {"verb": "cut", "node": "A", "way": "out"}    A's requests are dropped unread
    {"verb": "cut", "node": "A", "way": "in"}     the answers to A are dropped
    {"verb": "heal", "node": "A"}
    {"verb": "cut", "node": "A", "disk": 1}       the same for the cable to one disk; heal as well
    {"verb": "refuse", "disk": 1}                 the disk answers, and denies every claim and release
    {"verb": "obey", "disk": 1}
    {"verb": "state"}                             {"ok", "cuts", "disks"}
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.kernel.register import Denied, Granted, Register
from middlewared.lab.disk_ports import DiskPorts
from middlewared.protocol import shelf

Way: TypeAlias = Literal["in", "out", "both"]
Answering: TypeAlias = Callable[[shelf.Reply], None]
Devices: TypeAlias = Mapping[int, Mapping[Node, Sequence[Path]]]
"""The loop devices of a disk's parts at its two ports."""


class StateFile:
    """One disk's register on a file: JSON, a newline, the CRC-32 of the JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Register:
        """Raises PortFailed where the file cannot be read or is damaged."""
        purpose = f"read {self.path}"
        try:
            body, _, crc = self.path.read_bytes().partition(b"\n")
            if crc != _crc(body):
                raise PortFailed(purpose, "the checksum does not fit: the disk is not served")
            return msgspec.json.decode(body, type=Register)
        except OSError as e:
            raise PortFailed(purpose, e.strerror or str(e)) from None
        except msgspec.DecodeError as e:
            raise PortFailed(purpose, f"{e}: the disk is not served") from None

    def save(self, register: Register) -> None:
        """Durable on return. Raises OSError; then the file holds the old state or the new one."""
        body = msgspec.json.encode(register)
        temporary = self.path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(body + b"\n" + _crc(body))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _crc(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body)


class Disk:
    """One disk: answers from what is durable, and makes changes durable in groups."""

    def __init__(self, number: int, file: StateFile, register: Register, ports: DiskPorts) -> None:
        self.number = number
        self.register = register
        self.failed: str | None = None
        self.refuses = False
        self._file = file
        self._ports = ports
        self._queue: list[tuple[Node, shelf.Change, Answering]] = []
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, f"disk{number}")

    def ask(self, node: Node, request: shelf.Request, answer: Answering) -> None:
        """Answer at once, or, for a change, when it is durable. A disk that failed answers nothing."""
        if self.failed is not None:
            return
        match request:
            case shelf.Read(id=id_):
                answer(shelf.Held(id=id_, granted=False, holding=self.register.holding))
            case shelf.ReadRecord(id=id_):
                answer(shelf.RecordIs(id=id_, record=self.register.record))
            case shelf.ReadBeat(id=id_):
                answer(shelf.BeatIs(id=id_, count=self.register.beat))
            case shelf.Claim() | shelf.Release() if self.refuses:
                answer(shelf.Held(id=request.id, granted=False, holding=self.register.holding))
            case shelf.Beat():
                self.register, reply = _carry_out(self.register, node, request)
                answer(reply)
            case _:
                self._queue.append((node, request, answer))
                if self._writing is None:
                    self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._queue:
            group, self._queue = self._queue, []
            register, replies = self.register, list[tuple[Answering, shelf.Held]]()
            for node, change, answer in group:
                register, reply = _carry_out(register, node, change)
                replies.append((answer, reply))
            if register is not self.register:
                try:
                    await asyncio.get_running_loop().run_in_executor(self._thread, self._keep, register)
                except OSError as e:
                    self.failed = f"{e.filename or self._file.path}: {e.strerror}"
                    print(f"shelf: {self.failed}: the disk is not served any more", file=sys.stderr, flush=True)
                    return
                # Beats went on meanwhile; they are not part of what was written.
                self.register = msgspec.structs.replace(register, beat=self.register.beat)
            for answer, reply in replies:
                answer(reply)
        self._writing = None

    def _keep(self, register: Register) -> None:
        self._file.save(register)
        self._ports.follow(register.holding.owner)


def _carry_out(register: Register, node: Node, request: shelf.Change | shelf.Beat) -> tuple[Register, shelf.Held]:
    after: Register
    answer: Granted | Denied
    match request:
        case shelf.Claim(node=asker, term=term, over=over) if asker == node:
            after, answer = register.claim(node, term, over)
        case shelf.Release(node=asker, term=term) if asker == node:
            after, answer = register.release(node, term)
        case shelf.WriteRecord(node=asker, record=record) if asker == node:
            after, answer = register.write_record(node, record)
        case shelf.Beat(node=asker, term=term, count=count) if asker == node:
            after, answer = register.write_beat(node, term, count)
        case _:
            after, answer = register, Denied(register.holding)  # not this cable's controller
    return after, shelf.Held(id=request.id, granted=isinstance(answer, Granted), holding=answer.holding)


class Port:
    """One controller's cable to one disk."""

    def __init__(self, node: Node, path: Path, disk: Disk) -> None:
        self.node = node
        self.drop_requests = False
        self.drop_answers = False
        self.disk = disk
        self._path = path
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()

    async def open(self) -> None:
        if self._server is None:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Line(self), self._path)

    def close(self) -> None:
        """Refuse new connections and drop those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for line in list(self._lines):
            line.transport.abort()

    def plugged(self, line: _Line) -> None:
        self._lines.add(line)

    def unplugged(self, line: _Line) -> None:
        self._lines.discard(line)


class _Line(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, port: Port) -> None:
        self._port = port
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._port.plugged(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._port.unplugged(self)

    def data_received(self, data: bytes) -> None:
        if self._port.drop_requests:
            self._rest = b""
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            for line in lines:
                self._port.disk.ask(self._port.node, shelf.decode_request(line), self._answer)
        except msgspec.DecodeError:
            self.transport.abort()
        if len(self._rest) > shelf.MAX_LINE:
            self.transport.abort()

    def _answer(self, reply: shelf.Reply) -> None:
        if not self._port.drop_answers and not self.transport.is_closing():
            self.transport.write(shelf.encode(reply))


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the control socket takes. disk None: all of them."""

    verb: Literal["cut", "heal", "refuse", "obey", "state"]
    node: Node | None = None
    way: Way = "both"
    disk: int | None = None


class Shelf:
    """Every disk, every cable, and who may cut them."""

    def __init__(self, disks: Sequence[Disk], ports: Sequence[Port]) -> None:
        self._disks = disks
        self._ports = ports
        self._cuts: dict[tuple[Node, int | None], set[str]] = {}

    async def obey(self, order: Order) -> dict[str, object]:
        match order:
            case Order(verb="state"):
                return {"ok": True, "cuts": self._shown_cuts(), "disks": [_shown(disk) for disk in self._disks]}
            case Order(verb="refuse" | "obey", disk=int(number)):
                for disk in self._disks:
                    if disk.number == number:
                        disk.refuses = order.verb == "refuse"
                return {"ok": True}
            case Order(verb="cut" | "heal", node=node) if node is not None and node in self._nodes():
                cut = self._cuts.setdefault((node, order.disk), set())
                if order.verb == "heal":
                    cut.clear()
                else:
                    cut |= {"in", "out"} if order.way == "both" else {order.way}
                await self.plug_in()
                return {"ok": True, "cuts": self._shown_cuts()}
        return {"ok": False, "error": f"node: {order.node!r} has no cable here; disk: {order.disk!r}"}

    async def plug_in(self) -> None:
        """Let every cable be as the cuts say."""
        for port in self._ports:
            cut = {way for where in (None, port.disk.number) for way in self._cuts.get((port.node, where), ())}
            port.drop_requests, port.drop_answers = "out" in cut, "in" in cut
            if cut == {"in", "out"}:
                port.close()
            else:
                await port.open()

    def _nodes(self) -> set[Node]:
        return {port.node for port in self._ports}

    def _shown_cuts(self) -> dict[str, str]:
        cables = {node if disk is None else f"{node}/{disk}": cut for (node, disk), cut in self._cuts.items()}
        return {cable: "both" if len(cut) == 2 else "".join(cut) for cable, cut in cables.items() if cut}


def _shown(disk: Disk) -> dict[str, object]:
    holding = disk.register.holding
    shown = {"number": disk.number, "term": holding.term, "owner": holding.owner, "generation": holding.generation}
    return shown | {"beat": disk.register.beat, "failed": disk.failed}


def open_disks(directory: Path, count: int, devices: Devices) -> list[Disk]:
    """The disks that can be served; each of the others is named on stderr. An empty directory gets empty disks."""
    files = [StateFile(directory / f"disk{number}.state") for number in range(count)]
    if not any(file.path.exists() for file in files):
        for file in files:
            file.save(Register())
    disks = []
    for number, file in enumerate(files):
        try:
            register, ports = file.load(), DiskPorts(devices.get(number, {}))
            ports.follow(register.holding.owner)
            disks.append(Disk(number, file, register, ports))
        except (PortFailed, OSError) as e:
            print(f"shelf: {e}", file=sys.stderr, flush=True)
    return disks


async def serve(directory: Path, count: int, cables: dict[Node, Path], control: Path, devices: Devices) -> None:
    """Serve until SIGTERM or SIGINT. The control socket is there last: who can connect to it finds all cables."""
    disks = open_disks(directory, count, devices)
    ports = [Port(node, sockets / str(disk.number), disk) for node, sockets in cables.items() for disk in disks]
    shelf_ = Shelf(disks, ports)
    await shelf_.plug_in()

    async def take_orders(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                try:
                    answer = await shelf_.obey(msgspec.json.decode(line, type=Order))
                except msgspec.DecodeError as e:
                    answer = {"ok": False, "error": str(e)}
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        writer.close()

    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    server = await asyncio.start_unix_server(take_orders, control)
    await end.wait()
    server.close()
    for port in ports:
        port.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="middlewared.lab.shelf", description="Shared disks for a pair on one machine")
    parser.add_argument("directory", metavar="DIR", type=Path, help="where the disks' state is kept")
    parser.add_argument("--disks", type=int, default=3, metavar="N", help="how many disks (default: 3)")
    parser.add_argument("--node", action="append", required=True, metavar="A|B=SOCKETDIR", help="a controller's cables")
    parser.add_argument("--port", action="append", default=[], metavar="A|B/N=DEVICE", help="a device of a disk there")
    parser.add_argument("--control", type=Path, required=True, metavar="SOCKET", help="where cut, heal and state go")
    arguments = parser.parse_args(argv)
    cables: dict[Node, Path] = {}
    for text in arguments.node:
        node, equals, sockets = text.partition("=")
        if not equals or node not in ("A", "B") or not Path(sockets).is_dir():
            parser.error(f"--node: {text!r} is not A=SOCKETDIR or B=SOCKETDIR with a directory that exists")
        cables[node] = Path(sockets)
    devices: dict[int, dict[Node, list[Path]]] = {}
    for text in arguments.port:
        port, equals, device = text.partition("=")
        node, slash, number = port.partition("/")
        if not (equals and slash and number.isdecimal()) or node not in ("A", "B"):
            parser.error(f"--port: {text!r} is not A/N=DEVICE or B/N=DEVICE")
        devices.setdefault(int(number), {}).setdefault(node, []).append(Path(device))
    try:
        arguments.control.unlink(missing_ok=True)
        asyncio.run(serve(arguments.directory, arguments.disks, cables, arguments.control, devices))
    except OSError as e:
        print(f"shelf: {e.filename or arguments.directory}: {e.strerror or e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
