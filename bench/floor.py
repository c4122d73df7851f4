"""The floor under a write that is durable on both: two SQLite FULL commits in parallel, and nothing else.

    python -m bench.floor DIR PORT                  the follower, until the connection is closed

The leader sends the value, commits it meanwhile, and waits for the follower's answer, which comes after its commit.
One table, WAL, synchronous=FULL, one value of the size of a record with its hashes.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path

VALUE = b"x" * 350
_LENGTH = struct.Struct(">I")
_START_S = 10.0


class Floor:
    """The leader, and its follower in a process of its own.

    processor: on which the follower runs; None: on any.
    """

    def __init__(self, directory: Path, processor: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        argv = [sys.executable, "-m", "bench.floor", str(directory), str(port)]
        self._process = subprocess.Popen(argv)
        if processor is not None:
            os.sched_setaffinity(self._process.pid, {processor})
        self._table = _open(directory / "leader.db")
        self._line = _connected(port)

    def write(self) -> None:
        """One value, durable on both when this returns."""
        self._line.sendall(_LENGTH.pack(len(VALUE)) + VALUE)
        _commit(self._table, VALUE)
        if self._line.recv(1) != b"+":
            raise SystemExit("the follower of the floor is gone")

    def close(self) -> None:
        self._line.close()
        self._table.close()
        self._process.wait(5)


def free_port() -> int:
    """One that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _open(path: Path) -> sqlite3.Connection:
    table = sqlite3.connect(path, isolation_level=None)
    table.execute("PRAGMA journal_mode = WAL")
    table.execute("PRAGMA synchronous = FULL")
    table.execute("CREATE TABLE IF NOT EXISTS v (seq INTEGER PRIMARY KEY, body BLOB)")
    return table


def _commit(table: sqlite3.Connection, value: bytes) -> None:
    table.execute("BEGIN IMMEDIATE")
    table.execute("INSERT INTO v (body) VALUES (?)", (value,))
    table.execute("COMMIT")


def _connected(port: int) -> socket.socket:
    until = time.monotonic() + _START_S
    while True:
        try:
            line = socket.create_connection(("127.0.0.1", port), timeout=_START_S)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return line


def _follow(directory: Path, port: int) -> None:
    table = _open(directory / "follower.db")
    with socket.create_server(("127.0.0.1", port)) as door:
        line, _ = door.accept()
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with line.makefile("rb") as reader:
        while head := reader.read(_LENGTH.size):
            _commit(table, reader.read(_LENGTH.unpack(head)[0]))
            line.sendall(b"+")


if __name__ == "__main__":
    _follow(Path(sys.argv[1]), int(sys.argv[2]))
