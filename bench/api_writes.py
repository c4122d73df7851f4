"""Writes at level pair through the API of the active controller of a lab, beside two bare SQLite commits in parallel.

One writer for the latency, in turns with the floor, and 64 for the rate, all on the unix socket as root. The lab's
controllers keep their logs on the same disk as the floor's databases.
"""

from __future__ import annotations

import itertools
import socket
import tempfile
import time
import uuid
from pathlib import Path

import msgspec

from bench import websocket
from bench.floor import Floor
from bench.report import Figure, beside_floor
from middlewared.kernel.errors import PortFailed
from middlewared.lab.driver import Pair

WRITERS = 64
ROUND = 200
RATE_S = 5.0
_numbers = itertools.count(1)


def measure(pair: Pair, runs: int) -> list[Figure]:
    """runs: how many writes the latency is measured by."""
    pair.make_whole("A")
    path = pair.layout.api_socket("A")
    with tempfile.TemporaryDirectory(prefix="mwb-") as directory:
        figures = [_latency(path, Path(directory), runs)]
    figures.append(_rate(pair, path))
    pair.make_whole("A")
    return figures


def _latency(path: Path, directory: Path, runs: int) -> Figure:
    floor = Floor(directory)
    ours_us: list[float] = []
    floor_us: list[float] = []
    link = _connected(path)
    _ask(link, _call("core.set_options", {"durability": True}))
    try:
        for _ in range(max(2, runs // ROUND)):
            for _ in range(ROUND):
                text = _write()
                begin = time.perf_counter_ns()
                answer = _ask(link, text)
                ours_us.append((time.perf_counter_ns() - begin) / 1000)
                if b'"durability":"pair"' not in answer:
                    raise PortFailed("measure writes at level pair", answer.decode(errors="replace"))
            for _ in range(ROUND):
                begin = time.perf_counter_ns()
                floor.write()
                floor_us.append((time.perf_counter_ns() - begin) / 1000)
    finally:
        link.close()
        floor.close()
    return beside_floor("config write at level pair, through the API", ours_us, floor_us)


def _rate(pair: Pair, path: Path) -> Figure:
    links = [_connected(path) for _ in range(WRITERS)]
    before, begin = pair.sync("A").last_seq, time.monotonic()
    try:
        websocket.load(links, RATE_S, lambda: websocket.frame(_write()))
    finally:
        for link in links:
            link.close()
    rate = (pair.sync("A").last_seq - before) / (time.monotonic() - begin)
    return Figure(
        what=f"durable on both, {WRITERS} writers, through the API",
        runs=1,
        said=f"{rate:.0f} events/s",
        values={"events_per_s": rate},
    )


def _connected(path: Path) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(10)
    link.connect(str(path))
    return websocket.begin(link)


def _write() -> bytes:
    return _call("network.configuration.update", {"domain": f"{next(_numbers)}.bench.example"})


def _call(method: str, argument: object) -> bytes:
    request = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), "method": method, "params": [argument]}
    return msgspec.json.encode(request)


def _ask(link: socket.socket, text: bytes) -> bytes:
    link.sendall(websocket.frame(text))
    return link.recv(8192)
