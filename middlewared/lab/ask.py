"""Calls of the product's own API, over a controller's unix socket (where the lab is root) or over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import types
from pathlib import Path

import aiohttp
import msgspec

from middlewared.kernel.errors import PortFailed


class Refusal(PortFailed):
    """The other side answered with an error."""


class Line:
    """One websocket to one controller, for as long as the `async with` lasts. Every call has the same deadline."""

    def __init__(self, where: Path | str, timeout_s: float) -> None:
        """where: a socket's path, or an http base."""
        self._where = where
        self._timeout_s = timeout_s
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None
        self._websocket: aiohttp.ClientWebSocketResponse

    async def __aenter__(self) -> Line:
        connector = aiohttp.UnixConnector(str(self._where)) if isinstance(self._where, Path) else None
        base = "http://localhost" if isinstance(self._where, Path) else self._where
        self._session = aiohttp.ClientSession(connector=connector)
        try:
            async with asyncio.timeout(self._timeout_s):
                self._websocket = await self._session.ws_connect(f"{base}/api/current")
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            await self._session.close()
            raise PortFailed(f"connect to {self._where}", str(e) or "no answer") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, *params: object) -> object:
        """The result of one call. Raises Refusal for an error, PortFailed when there is no answer in time."""
        id_ = next(self._ids)
        request = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
        purpose = f"call {method} of {self._where}"
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._websocket.send_str(msgspec.json.encode(request).decode())
                while True:
                    reply: dict[str, object] = msgspec.json.decode(await self._websocket.receive_str())
                    if reply.get("id") == id_:
                        break
        except (aiohttp.ClientError, OSError, TimeoutError, TypeError, msgspec.DecodeError) as e:
            raise PortFailed(purpose, str(e) or "no answer") from None
        if "error" in reply:
            raise Refusal(purpose, msgspec.json.encode(reply["error"]).decode())
        return reply.get("result")
