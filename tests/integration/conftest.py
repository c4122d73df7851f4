"""Two things to test against, both of network namespaces: a small LAN for single daemons, and the lab with its pair.

Needs root. A test that asks for `lan` or `pair` is skipped with a sentence when it is not root, and fails with it where
CI=true.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from middlewared.client import Client, parse
from middlewared.kernel.event import Record
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.protocol.carp_packet import checksum
from middlewared.shell.websocket_client import open_link
from middlewared.store import quarantine
from middlewared.store.reader import LogReader

T = TypeVar("T")

NEEDS_ROOT = "needs root: network namespaces, raw sockets and macvlan interfaces"
_ETH_P_ALL = 3
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()


def until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Wait for a condition. Returns how long it took; fails when it takes longer than `within_s`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within_s, f"not within {within_s} s: {what}"
        time.sleep(0.005)
    return time.monotonic() - start


def holds_for(condition: Callable[[], bool], during_s: float, what: str) -> None:
    """The condition is true now and stays true."""
    end = time.monotonic() + during_s
    while time.monotonic() < end:
        assert condition(), f"no longer: {what}"
        time.sleep(0.01)


class Host:
    """One namespace with an `eth0` in the LAN."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program in this namespace; it is killed when the test ends. Its output goes to the test's."""
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *command], text=True)
        self.processes.append(process)
        return process

    def ip(self, *arguments: str) -> str:
        return subprocess.run(
            ["ip", "-n", self.name, *arguments], check=True, capture_output=True, text=True, timeout=10
        ).stdout

    def has(self, address: str) -> bool:
        return f" {address}/" in self.ip("addr", "show")

    def do(self, deed: Callable[[], T]) -> T:
        """Run something on a thread that is in this namespace. A socket that it makes stays in it."""
        results: list[T] = []
        failures: list[BaseException] = []

        def inside() -> None:
            try:
                with Path(f"/run/netns/{self.name}").open() as namespace:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                results.append(deed())
            except BaseException as e:
                failures.append(e)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join(10)
        if failures:
            raise failures[0]
        return results[0]

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(5)


class Watcher:
    """The client: it asks for the VIP, and sees every frame that reaches it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        protocol = socket.htons(_ETH_P_ALL)
        self._frames = host.do(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol))
        self._frames.bind(("eth0", _ETH_P_ALL))
        self._echo = {
            4: host.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
            6: host.do(lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)),
        }
        self._count = itertools.count(1)

    def close(self) -> None:
        for sock in (self._frames, *self._echo.values()):
            sock.close()

    def frames(self, during_s: float) -> Iterator[bytes]:
        end = time.monotonic() + during_s
        while (left := end - time.monotonic()) > 0:
            self._frames.settimeout(left)
            try:
                yield self._frames.recv(2048)
            except TimeoutError:
                return

    def adverts(self, during_s: float) -> list[bytes]:
        """IPv4 CARP frames, whole."""
        return [f for f in self.frames(during_s) if f[12:14] == b"\x08\x00" and f[23] == 112]

    def send(self, frame: bytes) -> None:
        self._frames.send(frame)

    def ping(self, address: str, wait_s: float = 0.2) -> str | None:
        """The MAC that answered an echo request, or None."""
        version = 6 if ":" in address else 4
        number = next(self._count)
        head = bytes((128, 0)) if version == 6 else bytes((8, 0))
        rest = struct.pack("!HH", os.getpid() & 0xFFFF, number) + b"probe!"
        total = 0 if version == 6 else checksum(head + b"\0\0" + rest)
        try:
            self._echo[version].sendto(head + struct.pack("!H", total) + rest, (address, 0))
        except OSError:
            return None
        offset, answer = (54, 129) if version == 6 else (34, 0)
        for frame in self.frames(wait_s):
            if frame[offset : offset + 1] == bytes((answer,)) and frame[offset + 4 :].startswith(rest):
                return frame[6:12].hex(":")
        return None


class Lan:
    """A switch, controllers A and B with an interlink `il0` between them, and a client."""

    def __init__(self) -> None:
        number = f"{os.getpid()}-{next(_numbers)}"
        self.switch = f"mwt-{number}-s"
        self.a = Host(f"mwt-{number}-a", "192.0.2.1")
        self.b = Host(f"mwt-{number}-b", "192.0.2.2")
        self.client = Host(f"mwt-{number}-c", "192.0.2.100")
        self.hosts = {"a": self.a, "b": self.b, "c": self.client}

    def build(self) -> None:
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", self.switch, "link", "set", "br0", "up")
        for number, (port, host) in enumerate(self.hosts.items(), 1):
            _ip("netns", "add", host.name)
            host.ip("link", "set", "lo", "up")
            host.ip("link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self.switch)
            _ip("-n", self.switch, "link", "set", "dev", port, "master", "br0", "up")
            host.ip("addr", "add", f"{host.address}/24", "dev", "eth0")
            host.ip("addr", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")
            host.ip("link", "set", "eth0", "up")
        self.a.ip("link", "add", "il0", "type", "veth", "peer", "name", "il0", "netns", self.b.name)
        for number, host in enumerate((self.a, self.b), 1):
            host.ip("addr", "add", f"169.254.10.{number}/30", "dev", "il0")
            host.ip("link", "set", "il0", "up")

    def add_second(self) -> None:
        """A second network: an `eth1` on every host, 198.51.100.N, at ports "a1", "b1", "c1" of a bridge of its own."""
        _ip("-n", self.switch, "link", "add", "br1", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", self.switch, "link", "set", "br1", "up")
        for number, (port, host) in enumerate(self.hosts.items(), 1):
            host.ip("link", "add", "eth1", "type", "veth", "peer", "name", f"{port}1", "netns", self.switch)
            _ip("-n", self.switch, "link", "set", "dev", f"{port}1", "master", "br1", "up")
            host.ip("addr", "add", f"198.51.100.{number}/24", "dev", "eth1")
            host.ip("link", "set", "eth1", "up")

    def plug(self, port: str, in_: bool) -> None:
        """The cable of a host ("a", "b", "c"; "a1" for its second) at the switch."""
        _ip("-n", self.switch, "link", "set", "dev", port, "up" if in_ else "down")

    def remove(self) -> None:
        for host in self.hosts.values():
            host.kill_all()
        for name in (self.switch, *(host.name for host in self.hosts.values())):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=20)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=20)


def need_root() -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail(NEEDS_ROOT)
        pytest.skip(NEEDS_ROOT)


@pytest.fixture(scope="module")
def lab() -> Iterator[Pair]:
    """One lab for the tests of a file, which take `pair`.

    How often the term moved, and how often a controller ended itself, is remembered for ten minutes: what one file did
    must not hold the pair of the next one.
    """
    need_root()
    directory = Path(tempfile.mkdtemp(prefix="mwi-", dir="/tmp"))
    made = Pair(directory)
    try:
        made.up()
        yield made
    finally:
        made.down(wipe=True)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def pair(lab: Pair) -> Iterator[Pair]:
    """The lab's pair, A active and in sync. A test after which it does not heal fails; the next gets a new one."""
    yield lab
    try:
        lab.make_whole("A")
        lab.wait_until("nothing more is noted", lambda: all_noted(lab, "A") and lab.is_whole("A"), 10.0)
        assert records(lab, "A") == records(lab, "B")
        assert lab.sync("A").state_digest == lab.sync("B").state_digest
    except BaseException:
        lab.down(wipe=True)
        lab.up()
        raise


@pytest.fixture
def lan() -> Iterator[Lan]:
    need_root()
    made = Lan()
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.fixture
def watcher(lan: Lan) -> Iterator[Watcher]:
    made = Watcher(lan.client)
    yield made
    made.close()


def boot_both(pair: Pair) -> None:
    """The tests before moved the term and ended controllers; either too often holds the pair for ten minutes."""
    pair.make_whole("A")
    pair.power_off("B")  # first: A keeps the disks, and with them its place after the boot
    pair.power_off("A")
    for node in NODES:
        (pair.layout.machine(node) / "ended.json").unlink(missing_ok=True)
        pair.power_on(node)
    pair.wait_until("A is whole", lambda: pair.is_whole("A"), 20.0)


def records(pair: Pair, node: Node) -> list[Record]:
    """The controller's whole log, also while it is off."""
    with LogReader(pair.layout.machine(node) / "log.db") as log:
        return log.since(0, 1_000_000)


def quarantined(pair: Pair, node: Node) -> list[Record]:
    """What was ever set aside on the controller, oldest file first."""
    files = (pair.layout.machine(node) / "quarantine").glob("*.log")
    by_age = sorted(files, key=lambda file: file.stat().st_mtime_ns)
    return [record for file in by_age for record in quarantine.read(file)]


def all_noted(pair: Pair, owner: Node) -> bool:
    """Whether the owner has written of every tail that was set aside: before, its log still grows by itself."""
    listed = pair.call(owner, "failover.quarantine.list")
    return isinstance(listed, list) and all(tail["noted"] for tail in listed)


def domains(log: list[Record]) -> list[str]:
    """Every domain that was written to the log, in order."""
    payloads = [json.loads(record.payload) for record in log]
    return [payload["domain"] for payload in payloads if "domain" in payload]


def write_at_vip(pair: Pair, **fields: object) -> dict[str, Any]:
    """network.configuration.update by an administrator at the virtual IP; what the reply says of its durability."""

    async def write() -> dict[str, Any]:
        result = pair.result
        async with Client(
            result.vip_url, username=result.user, password=result.password, durability=True, patience_s=5.0
        ) as client:
            reply = await client.request("network.configuration.update", [fields])
        return dict(msgspec.to_builtins(reply.meta))

    return asyncio.run(write())


def ask_raw(pair: Pair, node: Node, method: str, params: object, url: str = "") -> dict[str, Any]:
    """One request to one controller, as root unless `url` is given; the answer as it came."""
    return say_raw(pair, node, json.dumps({"jsonrpc": "2.0", "id": "1", "method": method, "params": params}), url)


def say_raw(pair: Pair, node: Node, text: str, url: str = "") -> dict[str, Any]:
    """One text frame, whatever is in it; the answer as it came."""

    async def say() -> dict[str, Any]:
        link = await open_link(parse(url or f"ws+unix://{pair.layout.api_socket(node)}"), 5.0)
        try:
            await link.send(text.encode())
            return dict(json.loads(await asyncio.wait_for(link.receive(), 5.0)))
        finally:
            await link.close()

    return asyncio.run(say())


def leave_b_behind(pair: Pair, domain: str) -> list[Record]:
    """B alone on, without the last write. Returns B's log."""
    pair.power_off("B")
    assert write_at_vip(pair, domain=domain)["durability"] == "single"
    pair.power_off("A")
    pair.power_on("B")
    pair.wait_until("B is active", lambda: (pair.role("B"), pair.vip_owner()) == ("MASTER", "B"), within_s=10)
    return records(pair, "B")
