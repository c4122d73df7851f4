"""A small LAN of network namespaces, and one host in it that watches.

Needs root. A test that asks for `lan` is skipped with a sentence when it is not root, and fails with it where CI=true.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from middlewared.protocol.carp_packet import checksum

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

    def plug(self, port: str, in_: bool) -> None:
        """The cable of a host ("a", "b", "c") at the switch."""
        _ip("-n", self.switch, "link", "set", "dev", port, "up" if in_ else "down")

    def remove(self) -> None:
        for host in self.hosts.values():
            host.kill_all()
        for name in (self.switch, *(host.name for host in self.hosts.values())):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=20)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=20)


@pytest.fixture
def lan() -> Iterator[Lan]:
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail(NEEDS_ROOT)
        pytest.skip(NEEDS_ROOT)
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
