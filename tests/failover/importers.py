"""Which controllers could write a pool's disks, at each instant, as seen from outside of both.

A controller has a pool imported exactly while its ZFS has the pool's disks open for writing (a search opens them for
reading). It could write while its port of the disk takes writes: that of a controller which lost the disk is read-only.
Both are read from /proc and /sys of the host each 10 ms, so that a frozen controller is seen like any other.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node
from middlewared.lab import namespaces
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES

EACH_S = 0.01
FIND_AGAIN_S = 0.1
_LOOP = 7


class Seen(msgspec.Struct, frozen=True):
    """From at_s of the monotonic clock on: who had the pool imported, and who of these could write its disks."""

    at_s: float
    imported: tuple[Node, ...]
    could_write: tuple[Node, ...]


class Importers:
    """Watches from `__enter__` to `__exit__`. changes: each change of what was seen. disks: numbers of the shelf's."""

    def __init__(self, pair: Pair, disks: Iterable[int]) -> None:
        self.changes: list[Seen] = []
        self.samples = 0
        self._pair = pair
        self._disks = tuple(disks)
        self._zfs: dict[Node, tuple[int, frozenset[int]]] = {}
        self._find_at = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Importers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)

    @property
    def most(self) -> int:
        """How many could write at one instant, at most."""
        return max((len(seen.could_write) for seen in self.changes), default=0)

    @property
    def now(self) -> Seen:
        return self.changes[-1]

    def _watch(self) -> None:
        while not self._over.wait(EACH_S):
            if len(self._zfs) < len(NODES) and time.monotonic() >= self._find_at:
                self._find()
                self._find_at = time.monotonic() + FIND_AGAIN_S
            self._look()

    def _look(self) -> None:
        self.samples += 1
        at_s = time.monotonic()
        imported, could_write = [], []
        for node in list(self._zfs):
            pid, ports = self._zfs[node]
            try:
                opened = _opened_for_writing(pid) & ports
                writable = any(_writable(port) for port in opened)
            except OSError:
                del self._zfs[node]
                continue
            if opened:
                imported.append(node)
            if writable:
                could_write.append(node)
        seen = Seen(at_s, tuple(imported), tuple(could_write))
        if not self.changes or (seen.imported, seen.could_write) != (self.now.imported, self.now.could_write):
            self.changes.append(seen)

    def _find(self) -> None:
        for node in NODES:
            if node in self._zfs:
                continue
            try:
                root = self._pair.root_pid(node)
                pid = next(pid for pid in namespaces.members(root) if _comm(pid) == "zfs-fuse") if root else 0
                ports = (
                    [Path(f"/proc/{root}/root/dev/shelf/{disk}").stat().st_rdev for disk in self._disks] if pid else []
                )
            except (MiddlewareError, OSError, StopIteration):
                continue
            if pid:
                self._zfs[node] = (pid, frozenset(ports))


def _opened_for_writing(pid: int) -> frozenset[int]:
    """The device numbers of what the process has open for writing. Raises OSError when it is gone."""
    devices = set()
    for opened in Path(f"/proc/{pid}/fd").iterdir():
        try:
            device = opened.stat().st_rdev
            if os.major(device) == _LOOP and _flags(pid, opened.name) & os.O_ACCMODE != os.O_RDONLY:
                devices.add(device)
        except FileNotFoundError:
            continue
    return frozenset(devices)


def _flags(pid: int, name: str) -> int:
    """proc_pid_fdinfo(5)."""
    lines = Path(f"/proc/{pid}/fdinfo/{name}").read_text().splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))


def _writable(device: int) -> bool:
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/ro").read_text().strip() == "0"


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
