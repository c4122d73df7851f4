"""API calls a second and p50 of core.ping, against a bare aiohttp + uvloop echo, in one run.

    .venv/bin/python -m bench.api [--seconds 2] [--rounds 3]

Both servers run at once, on the first processor; the load comes from the last, by raw sockets and epoll, and goes to
them in turns, so that both meet the same machine. Only the ratios mean anything elsewhere. Where others use the
processors too, the processor time that a server takes for a call is the steadiest of them.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import websocket

CONNECTIONS = 32
REQUEST = b'{"jsonrpc":"2.0","method":"core.ping","id":"0d9b7a52-6a58-4a52-8e9a-b2d3f6d6f0aa","params":[]}'
FRAME = websocket.frame(REQUEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=("echo", "api"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.port)
        return
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[-1]})
    servers = {kind: start(kind, cpus[0]) for kind in ("echo", "api")}
    try:
        measure(servers, args.seconds, args.rounds)
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait(5)


def measure(servers: dict[str, tuple[subprocess.Popen[bytes], int]], seconds: float, rounds: int) -> None:
    kinds = list(servers)
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    costs: dict[str, list[float]] = {kind: [] for kind in kinds}
    p50s: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, (process, port) in servers.items():
            before = cpu_s(process.pid)
            links = [connect(port) for _ in range(CONNECTIONS)]
            answered, elapsed = websocket.load(links, seconds, lambda: FRAME)
            for link in links:
                link.close()
            rates[kind].append(answered / elapsed)
            costs[kind].append(answered / (cpu_s(process.pid) - before))
            p50s[kind].append(p50_us(port, 3000))
    for title, values in (
        (f"calls/s, {CONNECTIONS} connections", rates),
        ("calls per second of the server's processor", costs),
        ("p50 us, 1 connection", p50s),
    ):
        echo, api = (statistics.median(values[kind]) for kind in kinds)
        print(f"{title:44} echo {echo:9.1f}   api {api:9.1f}   ratio {api / echo:.2f}")


def cpu_s(pid: int) -> float:
    """Processor time that a process has taken (proc(5), stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def p50_us(port: int, calls: int) -> float:
    times = []
    with connect(port) as link:
        for _ in range(calls):
            begin = time.perf_counter_ns()
            link.sendall(FRAME)
            link.recv(4096)
            times.append(time.perf_counter_ns() - begin)
    return statistics.median(times) / 1000


def connect(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=5)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return websocket.begin(link)


def start(kind: str, cpu: int) -> tuple[subprocess.Popen[bytes], int]:
    """A server of that kind on that processor, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "bench.api", "--serve", kind, "--port", str(port)]
    process = subprocess.Popen(command)
    os.sched_setaffinity(process.pid, {cpu})
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            connect(port).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process, port
    process.kill()
    raise SystemExit(f"the {kind} server did not start")


def serve(kind: str, port: int) -> None:
    import uvloop

    uvloop.run(_echo(port) if kind == "echo" else _api(port))


async def _echo(port: int) -> None:
    import asyncio

    from aiohttp import WSMsgType, web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/api/current", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def _api(port: int) -> None:
    import asyncio

    from middlewared_plugins.auth import plugin as auth
    from middlewared_plugins.core import plugin as core

    from middlewared.config import BootFile
    from middlewared.engine.standin import dispatcher
    from middlewared.shell.websocket import ApiServer

    answers, _, bus = dispatcher(core, auth)
    with tempfile.TemporaryDirectory() as directory:
        boot = BootFile(node="A", run_dir=str(Path(directory)), listen=f"127.0.0.1:{port}")
        await ApiServer(answers, bus, boot).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()
