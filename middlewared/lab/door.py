"""The bench's door: DIR/lab.sock, one request a connection. What is said here is in `verbs.py`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

import msgspec

from middlewared.kernel.errors import MiddlewareError
from middlewared.lab import status, verbs
from middlewared.lab.bench import Bench, note
from middlewared.lab.news import News
from middlewared.lab.verbs import Booted, Cut, Down, Freeze, Heal, Power, Ready, Rebooting, Status, Thaw, Verb, Where


async def open_door(bench: Bench, news: News, down: Callable[[], Awaitable[None]]) -> asyncio.Server:
    """Listen. news: how `up` comes along. down: ends the lab."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled at the end of the bench: the machines' connections are open until then.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while line := await reader.readline():
                await _answer(line, reader, writer)
        writer.close()

    async def _answer(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            verb = verbs.decoder.decode(line)
            if isinstance(verb, Booted):
                bench.machine(verb.machine).announced(_peer_pid(writer), lambda: _send(writer, verbs.ok("go")))
                return
            if isinstance(verb, Ready):
                async for said in news.follow():
                    _send(writer, verbs.Reply(say=said))
                _send(writer, verbs.ok(await news.outcome))
                return
            _send(writer, verbs.ok(await _carry_out(bench, verb, down)))
        except (MiddlewareError, msgspec.DecodeError) as e:
            _send(writer, verbs.Reply(error=str(e)))

    server = await asyncio.start_unix_server(serve, bench.layout.socket)
    bench.layout.socket.chmod(0o600)
    return server


async def _carry_out(bench: Bench, verb: Verb, down: Callable[[], Awaitable[None]]) -> object:
    """Do what was asked; returns when it is in force."""
    match verb:
        case Status():
            return await status.look(bench)
        case Where(machine=machine):
            return bench.machine(machine).pid
        case Power(node=node, on=True):
            await bench.power_on(node)
        case Power(node=node):
            await bench.power_off(node)
        case Freeze(node=node):
            await bench.freeze(node)
        case Thaw(node=node):
            await bench.thaw(node)
        case Cut(link=link, way=way):
            await bench.cut(link, way)
        case Heal(link=link, way=way):
            await bench.heal(link, way)
        case Rebooting(machine=machine, why=why):
            note(f"{machine} reboots: {why}")
        case Down():
            await down()
    return None


def _send(writer: asyncio.StreamWriter, reply: verbs.Reply) -> None:
    writer.write(msgspec.json.encode(reply) + b"\n")


def _peer_pid(writer: asyncio.StreamWriter) -> int:
    """Who connected, as the kernel names it here, outside of its own pid namespace: unix(7), SO_PEERCRED."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid: int = struct.unpack("iII", credentials)[0]
    return pid
