"""The API's sockets: websockets on TCP and on the unix socket, text in, text out. No meaning is decided here.

One task reads a connection and answers in it. When a call begins to wait, that task stays with the call and a new one
reads on; so calls of one client run side by side, and one that does not wait costs no task.

Who is who: the unix socket tells the uid of the other end (SO_PEERCRED); uid 0 is root, everybody else logs in.
A browser tells the page that it came from (Origin); only pages of this host and of localhost may talk to the API.

Slow clients are bounded: reading stops while a reply waits to be taken, notifications are bounded by the session, and
who says nothing for HEARTBEAT_S, not even a pong to our ping, is gone. (aiohttp's own heartbeat does the same by moving
a timer with each message, which is a tenth of the cost of a call.)
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import WSMessage, WSMsgType, web

from middlewared.config import BootFile
from middlewared.kernel.errors import BadBootFile, CallFailed
from middlewared.protocol.session import Session

log = logging.getLogger(__name__)

API_PATH = "/api/current"
HEARTBEAT_S = 20.0
"""Between pings. Not less than 10: a client on a starved machine answers late, and is not dead for that."""
MAX_TEXT = 1024 * 1024
MAX_CONNECTIONS = 1000
STOP_S = 2.0
_TEXTS = (WSMsgType.TEXT, WSMsgType.BINARY)


class Answers(Protocol):
    """What turns a text into the text to send: engine.dispatch.Dispatcher."""

    async def answer(self, session: Session, text: bytes | str, suspended: Callable[[], None]) -> bytes | None: ...


class Notices(Protocol):
    """What fills the sessions' outboxes: engine.bus.Bus."""

    def attach(self, session: Session, wake: Callable[[], None]) -> None: ...

    def detach(self, session: Session) -> None: ...


class Files(Protocol):
    """What gives the files that jobs made: engine.downloads.Downloads."""

    async def fetch(self, id_: int, token: str) -> tuple[Path, str]: ...


class ApiServer:
    """The API on `boot.listen` and on `boot.api_socket`."""

    def __init__(
        self,
        answers: Answers,
        notices: Notices,
        boot: BootFile,
        *,
        product: str = "middlewared",
        heartbeat_s: float = HEARTBEAT_S,
        files: Files | None = None,
    ) -> None:
        self._files = files
        self._answers = answers
        self._notices = notices
        self._boot = boot
        self._product = product
        self._heartbeat_s = heartbeat_s
        self._connections: set[_Connection] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises BadBootFile with one line that names the address or file and the reason."""
        app = web.Application()
        app.router.add_get(API_PATH, self._connect)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/", self._front_page)
        if self._files is not None:
            app.router.add_get(r"/_download/{id:\d{1,15}}", partial(self._download, self._files))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_S)
        await self._runner.setup()
        try:
            await self._listen(self._runner)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every connection (1001: going away) and stop listening."""
        with suppress(TimeoutError):  # A client that does not answer the goodbye is cut off below.
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(connection.close() for connection in self._connections))
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _listen(self, runner: web.AppRunner) -> None:
        host, port = self._boot.listen_address
        try:
            await web.TCPSite(runner, host, port, reuse_address=True).start()
        except OSError as e:
            raise BadBootFile(f"listen: {self._boot.listen}: {os.strerror(e.errno or errno.EINVAL)}") from None
        path = self._boot.api_socket
        _make_way(path)
        try:
            await web.UnixSite(runner, path).start()
            _open_to_all(path)
        except OSError as e:
            raise BadBootFile(f"run_dir: {path}: {e.strerror or e}") from None

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        if not _origin_allowed(request):
            raise web.HTTPForbidden(text="This page may not talk to the API: its Origin is another host\n")
        if len(self._connections) >= MAX_CONNECTIONS:
            raise web.HTTPServiceUnavailable(text=f"There are {MAX_CONNECTIONS} connections\n")
        ws = web.WebSocketResponse(
            timeout=STOP_S, autoping=False, max_msg_size=MAX_TEXT, compress=False, decode_text=False
        )
        await ws.prepare(request)
        connection = _Connection(ws, _session_of(request), self._answers, self._heartbeat_s)
        self._connections.add(connection)
        self._notices.attach(connection.session, connection.wake)
        try:
            await connection.run()
        finally:
            self._notices.detach(connection.session)
            self._connections.discard(connection)
        return ws

    async def _download(self, files: Files, request: web.Request) -> web.StreamResponse:
        try:
            path, name = await files.fetch(int(request.match_info["id"]), request.query.get("auth_token", ""))
        except CallFailed as e:
            status = {errno.ENOENT: 404, errno.EAGAIN: 503}.get(e.errno, 500)
            return web.Response(status=status, text=e.reason + "\n", headers={"Cache-Control": "no-store"})
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return web.FileResponse(path, headers=headers)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _front_page(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{self._product}: the API is the websocket at {API_PATH}\n")


class _Connection:
    """One websocket and the tasks that serve it."""

    def __init__(self, ws: web.WebSocketResponse, session: Session, answers: Answers, heartbeat_s: float) -> None:
        self.session = session
        self._ws = ws
        self._answers = answers
        self._gone = asyncio.Event()
        self._closing = False
        self._heartbeat_s = heartbeat_s
        self._heard = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._sender: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until the client is gone. Calls that still wait then are cancelled: nobody hears of them."""
        self._spawn(self._read())
        self._spawn(self._beat())
        try:
            await self._gone.wait()
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """The session's outbox has something."""
        if self._sender is None and self.session.outbox:
            self._sender = self._spawn(self._send_waiting())

    async def close(self) -> None:
        """Say goodbye, and then end `run`."""
        self._closing = True
        try:
            await self._ws.close(code=1001, message=b"the controller stops serving")
        finally:
            self._gone.set()

    async def _read(self) -> None:
        """Read and answer, until the client goes or a call waits and another task reads on."""
        read_on = True

        def hand_over() -> None:
            nonlocal read_on
            if read_on:
                read_on = False
                self._spawn(self._read())

        while read_on:
            message = await self._ws.receive()
            self._heard = True
            if message.type not in _TEXTS:
                if await self._control(message):
                    continue
                return
            reply = await self._answers.answer(self.session, message.data, hand_over)
            if reply is not None:
                await self._send_notices()  # What happened before the answer is told before it.
                await self._send(reply)

    async def _control(self, message: WSMessage) -> bool:
        """What is not a text. False: there will be no more."""
        if message.type is WSMsgType.PING:
            await self._ws.pong(message.data)
        elif message.type is not WSMsgType.PONG:
            if not self._closing:
                self._gone.set()
            return False
        return True

    async def _beat(self) -> None:
        """Ping, and end the connection when nothing at all came since the last ping."""
        await asyncio.sleep(self._heartbeat_s)
        while self._heard:
            self._heard = False
            with suppress(ConnectionError):
                await self._ws.ping()
            await asyncio.sleep(self._heartbeat_s)
        log.info("%s does not answer", self.session.origin)
        self._gone.set()

    async def _send_waiting(self) -> None:
        try:
            await self._send_notices()
        finally:
            self._sender = None

    async def _send_notices(self) -> None:
        """Two tasks may be here: a frame is written as soon as it is taken, so they keep their order."""
        while self.session.outbox:
            await self._send(self.session.take())

    async def _send(self, text: bytes) -> None:
        try:
            await self._ws.send_frame(text, WSMsgType.TEXT)
        except ConnectionError:
            return  # The reader finds out too, and ends the connection.

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("Connection of %s ends", self.session.origin, exc_info=task.exception())
            self._gone.set()


def _session_of(request: web.Request) -> Session:
    """A new session for the other end of the connection."""
    uid = _peer_uid(request)
    peer = request.transport.get_extra_info("peername") if request.transport else None
    origin = f"unix:{uid}" if uid is not None else _address(peer)
    return Session(id=_new_id(), origin=origin, local_root=uid == 0, new_id=_new_id)


def _peer_uid(request: web.Request) -> int | None:
    """The uid at the other end of a unix socket; None on TCP."""
    sock = request.transport.get_extra_info("socket") if request.transport else None
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    with socket.socket(fileno=os.dup(sock.fileno())) as copy:
        _pid, uid, _gid = struct.unpack("3i", copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def _address(peer: object) -> str:
    match peer:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case _:
            return "unknown"


def _origin_allowed(request: web.Request) -> bool:
    """No Origin (not a browser), the host that was asked, or localhost."""
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and (parts.netloc == request.host or parts.hostname == "localhost")


def _make_way(path: str) -> None:
    """Remove a socket that a server before us left; refuse to take one that is served. Raises BadBootFile."""
    if not Path(path).is_socket():
        if Path(path).exists():
            raise BadBootFile(f"run_dir: {path} is there and is no socket")
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except OSError as e:
            raise BadBootFile(f"run_dir: {path}: {e.strerror or e}") from None
    raise BadBootFile(f"run_dir: {path} is served by another process")


def _open_to_all(path: str) -> None:
    """Let every local user connect; who is not root logs in."""
    Path(path).chmod(0o666)


def _new_id() -> str:
    return str(uuid.uuid4())
