from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.core import plugin as core

from middlewared.config import BootFile
from middlewared.engine.bus import Bus
from middlewared.engine.standin import dispatcher
from middlewared.kernel.errors import BadBootFile
from middlewared.plugin import Call, Plugin, local
from middlewared.shell.websocket import API_PATH, MAX_TEXT, ApiServer

WAIT_S = 5.0
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable
"""One that another user can run too."""

# A masked frame with the mask 0: what another user's program sends.
ASK_WHO_I_AM = """
import socket, sys
request = b'{"jsonrpc":"2.0","method":"auth.me","id":1}'
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    s.sendall(b"GET /api/current HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
              b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n")
    s.sendall(bytes((0x81, 0x80 | len(request))) + bytes(4) + request)
    answer = b""
    while b"}}" not in answer:
        answer += s.recv(999)
print(answer)
"""


class World:
    """A server with a method that waits until it is let go."""

    def __init__(self, directory: Path) -> None:
        self.boot = BootFile(node="A", run_dir=str(directory), listen=f"127.0.0.1:{free_port()}")
        self.let_go = asyncio.Event()
        self.cancelled = asyncio.Event()
        made, _, self.bus = dispatcher(core, auth, Plugin(name="test", methods=(local("test.wait")(self._wait),)))
        self.server = ApiServer(made, self.bus, self.boot)
        self.http = aiohttp.ClientSession()
        self.local = aiohttp.ClientSession(connector=aiohttp.UnixConnector(self.boot.api_socket))

    async def far(self, **headers: str) -> aiohttp.ClientWebSocketResponse:
        return await self.http.ws_connect(f"http://{self.boot.listen}{API_PATH}", headers=headers)

    async def root(self) -> aiohttp.ClientWebSocketResponse:
        return await self.local.ws_connect(f"http://localhost{API_PATH}")

    async def _wait(self, call: Call) -> str:
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "gone on"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    try:
        await made.server.start()
        yield made
    finally:
        await made.http.close()
        await made.local.close()
        await made.server.stop()


async def ask(ws: aiohttp.ClientWebSocketResponse, method: str, *params: object, id_: object = 1) -> None:
    await ws.send_json({"jsonrpc": "2.0", "method": method, "params": params, "id": id_})


async def told(ws: aiohttp.ClientWebSocketResponse) -> dict[str, object]:
    answer: dict[str, object] = await ws.receive_json(timeout=WAIT_S)
    return answer


async def test_a_call_is_answered_on_tcp_and_on_the_unix_socket(world: World) -> None:
    for ws in (await world.far(), await world.root()):
        await ask(ws, "core.ping")
        assert await told(ws) == {"jsonrpc": "2.0", "id": 1, "result": "pong"}


async def test_uid_0_on_the_unix_socket_is_root_and_nobody_on_tcp_is_anybody(world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root") if not os.environ.get("CI") else pytest.fail("needs root")
    root, far = await world.root(), await world.far()
    await ask(root, "auth.me")
    assert (await told(root))["result"]["pw_name"] == "root"  # type: ignore[index]
    await ask(far, "auth.me")
    assert (await told(far))["error"]["data"]["error"] == 207  # type: ignore[index]


async def test_another_uid_on_the_unix_socket_must_log_in(world: World, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root") if not os.environ.get("CI") else pytest.fail("needs root")
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    child = await asyncio.create_subprocess_exec(
        SYSTEM_PYTHON, "-c", ASK_WHO_I_AM, world.boot.api_socket, user=65534, stdout=subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(child.communicate(), WAIT_S)
    assert b'"error":207' in out


@pytest.mark.parametrize("text", ["{", "[]", "5", "null", '{"jsonrpc":"2.0","id":1}'])
async def test_a_malformed_text_is_answered_and_the_connection_stays(world: World, text: str) -> None:
    ws = await world.far()
    await ws.send_str(text)
    assert (await told(ws))["error"]["code"] in (-32700, -32600)  # type: ignore[index]
    await ask(ws, "core.ping")
    assert (await told(ws))["result"] == "pong"


async def test_a_binary_message_with_json_is_taken_too(world: World) -> None:
    ws = await world.far()
    await ws.send_bytes(b'{"jsonrpc":"2.0","method":"core.ping","id":1}')
    assert (await told(ws))["result"] == "pong"


async def test_a_message_beyond_the_limit_ends_the_connection_with_1009(world: World) -> None:
    ws = await world.far()
    await ws.send_str("x" * (MAX_TEXT + 1))
    assert (await ws.receive(timeout=WAIT_S)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    assert ws.close_code == 1009


async def test_a_call_that_waits_holds_up_no_other_of_the_same_client(world: World) -> None:
    ws = await world.root()
    for number in range(3):
        await ask(ws, "test.wait", id_=f"w{number}")
    await ask(ws, "core.ping", id_="p")
    assert (await told(ws))["id"] == "p"
    world.let_go.set()
    assert {(await told(ws))["id"] for _ in range(3)} == {"w0", "w1", "w2"}


async def test_the_21st_call_under_way_is_refused_and_the_20_go_on(world: World) -> None:
    ws = await world.root()
    for number in range(21):
        await ask(ws, "test.wait", id_=number)
    refused = await told(ws)
    assert (refused["id"], refused["error"]["code"]) == (20, -32000)  # type: ignore[index]
    world.let_go.set()
    assert {(await told(ws))["id"] for _ in range(20)} == set(range(20))


async def test_the_calls_of_a_client_that_left_are_cancelled(world: World) -> None:
    ws = await world.root()
    await ask(ws, "test.wait")
    await ask(ws, "core.ping", id_="p")
    assert (await told(ws))["id"] == "p"
    await ws.close()
    await asyncio.wait_for(world.cancelled.wait(), WAIT_S)


async def test_a_change_is_told_to_a_subscriber(world: World) -> None:
    ws = await world.root()
    await ask(ws, "core.subscribe", "user")
    assert isinstance((await told(ws))["result"], str)
    world.bus.publish("user", fields={"n": 1})
    assert (await told(ws))["params"] == {"msg": "changed", "collection": "user", "fields": {"n": 1}, "seq": 0}


async def test_a_client_that_does_not_read_is_told_that_it_missed_something(world: World) -> None:
    ws = await world.root()
    await ask(ws, "core.subscribe", "user")
    await told(ws)
    for _ in range(3000):
        world.bus.publish("user", fields={"text": "x" * 10_000})
    seen = 0
    while (message := await told(ws))["method"] == "collection_update":
        seen += 1
    assert seen < 3000
    assert message["method"] == "notify_unsubscribed"
    assert message["params"]["error"]["errname"] == "ENOBUFS"  # type: ignore[index]


@pytest.mark.parametrize("origin", ["http://localhost", "https://localhost:4200", None])
async def test_pages_of_localhost_and_programs_may_connect(world: World, origin: str | None) -> None:
    ws = await world.far(**({"Origin": origin} if origin else {}))
    await ask(ws, "core.ping")
    assert (await told(ws))["result"] == "pong"


async def test_a_page_of_this_host_may_connect(world: World) -> None:
    ws = await world.far(Origin=f"http://{world.boot.listen}")
    await ask(ws, "core.ping")
    assert (await told(ws))["result"] == "pong"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example", "file://localhost"])
async def test_a_page_of_another_host_may_not(world: World, origin: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await world.far(Origin=origin)
    assert refused.value.status == 403


async def test_the_front_page_names_the_product_and_health_is_told(world: World) -> None:
    async with world.http.get(f"http://{world.boot.listen}/") as page:
        assert "middlewared" in await page.text()
    async with world.http.get(f"http://{world.boot.listen}/healthz") as page:
        assert await page.json() == {"alive": True}


async def test_stopping_tells_every_client_that_the_server_goes_away(world: World) -> None:
    ws = await world.root()
    await world.server.stop()
    goodbye = await ws.receive(timeout=WAIT_S)
    assert (goodbye.type, goodbye.data) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_a_client_that_answers_no_ping_is_given_up(world: World, tmp_path: Path) -> None:
    run_dir = tmp_path / "impatient"
    run_dir.mkdir()
    boot = BootFile(node="A", run_dir=str(run_dir), listen=f"127.0.0.1:{free_port()}")
    made, _, bus = dispatcher(core)
    impatient = ApiServer(made, bus, boot, heartbeat_s=0.05)
    await impatient.start()
    try:
        deaf = await world.http.ws_connect(f"http://{boot.listen}{API_PATH}", autoping=False)
        assert (await deaf.receive(timeout=WAIT_S)).type is aiohttp.WSMsgType.PING
        alive = await world.http.ws_connect(f"http://{boot.listen}{API_PATH}")
        reading = asyncio.create_task(alive.receive())
        assert (await deaf.receive(timeout=WAIT_S)).type is aiohttp.WSMsgType.CLOSE
        assert not reading.done()
        await ask(alive, "core.ping")
        assert (await asyncio.wait_for(reading, WAIT_S)).type is aiohttp.WSMsgType.TEXT
    finally:
        await impatient.stop()


async def test_a_ping_of_the_client_is_answered(world: World) -> None:
    ws = await world.http.ws_connect(f"http://{world.boot.listen}{API_PATH}", autoping=False)
    await ws.ping(b"are you there")
    answer = await ws.receive(timeout=WAIT_S)
    assert (answer.type, bytes(answer.data)) == (aiohttp.WSMsgType.PONG, b"are you there")


# What keeps it from starting


def server(boot: BootFile) -> ApiServer:
    made, _, bus = dispatcher(core)
    return ApiServer(made, bus, boot)


async def test_a_port_in_use_is_one_line_that_names_it(world: World, tmp_path: Path) -> None:
    boot = BootFile(node="A", run_dir=str(tmp_path / "other"), listen=world.boot.listen)
    with pytest.raises(BadBootFile, match=f"^listen: {world.boot.listen}: Address already in use$"):
        await server(boot).start()


async def test_a_socket_that_is_served_is_not_taken(world: World) -> None:
    boot = BootFile(node="A", run_dir=world.boot.run_dir, listen=f"127.0.0.1:{free_port()}")
    with pytest.raises(BadBootFile, match=r"^run_dir: .*middlewared.sock is served by another process$"):
        await server(boot).start()


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    boot = BootFile(node="A", run_dir=str(tmp_path), listen=f"127.0.0.1:{free_port()}")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(boot.api_socket)
    made = server(boot)
    await made.start()
    await made.stop()


@pytest.mark.parametrize(
    ("run_dir", "reason"),
    [("missing", "No such file or directory"), ("x" * 120, "too long"), ("taken", "is there and is no socket")],
)
async def test_a_socket_that_cannot_be_made_is_one_line_that_names_it(
    tmp_path: Path, run_dir: str, reason: str
) -> None:
    for name in ("x" * 120, "taken"):
        (tmp_path / name).mkdir()
    (tmp_path / "taken" / "middlewared.sock").write_text("")
    boot = BootFile(node="A", run_dir=str(tmp_path / run_dir), listen=f"127.0.0.1:{free_port()}")
    with pytest.raises(BadBootFile, match=f"run_dir: .*{reason}") as raised:
        await server(boot).start()
    assert "\n" not in str(raised.value)


async def test_an_outbox_wakes_its_sender_once(world: World) -> None:
    assert isinstance(world.bus, Bus)
    ws = await world.root()
    await ask(ws, "core.subscribe", "*")
    await told(ws)
    for number in range(50):
        world.bus.publish("user", fields={"n": number})
    assert [(await told(ws))["params"]["fields"]["n"] for _ in range(50)] == list(range(50))  # type: ignore[index]
