"""The door from the host into the lab: TCP connections to 127.0.0.1 are carried on over the lab's LAN.

    python -m middlewared.lab.relay FD=ADDRESS:PORT...

It runs in the client's namespaces and listens on files that were opened on the host. The far connection notices a
machine that lost power within seconds (keepalive and TCP_USER_TIMEOUT, tcp(7)), and the near one then ends as a client
on the LAN would have seen it: by a reset. An orderly end is passed on as such, in each direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys

CONNECT_TIMEOUT_S = 2.0
KEEPALIVE_IDLE_S = 1
KEEPALIVE_INTERVAL_S = 1
KEEPALIVE_COUNT = 3
USER_TIMEOUT_MS = 3000
CHUNK = 64 * 1024


async def relay(near: asyncio.StreamReader, near_out: asyncio.StreamWriter, address: str, port: int) -> None:
    """Carry one connection until both directions ended; reset the near side when the far one fails."""
    try:
        far, far_out = await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError):
        reset(near_out)
        return
    watch_for_death(far_out.get_extra_info("socket"))
    try:
        async with asyncio.TaskGroup() as directions:
            directions.create_task(carry(near, far_out))
            directions.create_task(carry(far, near_out))
    except* OSError:
        reset(near_out)
        reset(far_out)
    finally:
        for out in (near_out, far_out):
            out.close()
            with contextlib.suppress(OSError):
                await out.wait_closed()


async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the source ends. Raises OSError when either side fails."""
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


def watch_for_death(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def reset(out: asyncio.StreamWriter) -> None:
    """End the connection by RST instead of FIN."""
    with contextlib.suppress(OSError):
        out.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    out.transport.abort()


async def serve(routes: list[tuple[socket.socket, str, int]]) -> None:
    """Relay each listening socket to its address and port, for ever."""
    servers = []
    for listener, address, port in routes:

        async def accept(
            near: asyncio.StreamReader, out: asyncio.StreamWriter, address: str = address, port: int = port
        ) -> None:
            await relay(near, out, address, port)

        servers.append(await asyncio.start_server(accept, sock=listener))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    routes = []
    for argument in sys.argv[1:]:
        fd, _, far = argument.partition("=")
        address, _, port = far.rpartition(":")
        routes.append((socket.socket(fileno=int(fd)), address, int(port)))
    asyncio.run(serve(routes))


if __name__ == "__main__":
    main()
