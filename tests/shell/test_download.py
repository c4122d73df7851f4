"""A file that a job made, fetched over HTTP."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from middlewared_plugins.core import plugin as core

from middlewared.client import Client
from middlewared.config import BootFile
from middlewared.engine.standin import dispatcher
from middlewared.kernel.errors import CallFailed, Refused
from middlewared.plugin import JobCall, Plugin, job
from middlewared.shell.websocket import ApiServer


class World:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.boot = BootFile(node="A", run_dir=str(directory), listen="127.0.0.1:1")
        jobs = (
            job("test.file", gives_file=True)(self._file),
            job("test.fails", gives_file=True)(self._fails),
            job("test.other")(self._file),
        )
        answers, _, bus = dispatcher(core, Plugin(name="test", methods=jobs))
        self.server = ApiServer(answers, bus, self.boot, files=answers.downloads)
        self.http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(self.boot.api_socket))

    async def _file(self, call: JobCall, text: str) -> dict[str, str]:
        path = self.directory / "made"
        await asyncio.to_thread(path.write_text, text)
        return {"path": str(path)}

    async def _fails(self, call: JobCall) -> None:
        raise CallFailed(errno.ENOSPC, "The disk is full")

    async def offer(self, method: str, *args: object, filename: str = "my file.tar") -> str:
        async with Client(f"ws+unix://{self.boot.api_socket}") as client:
            answer = await client.call("core.download", method, list(args), filename)
            assert isinstance(answer, list)
            return str(answer[1])

    async def get(self, url: str) -> tuple[int, str, str]:
        """Status, text, the name that the file is given."""
        async with self.http.get("http://localhost" + url) as response:
            return response.status, await response.text(), response.headers.get("Content-Disposition", "")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World(tmp_path)
    monkeypatch.setattr(BootFile, "listen_address", ("127.0.0.1", 0))
    await made.server.start()
    try:
        yield made
    finally:
        await made.http.close()
        await made.server.stop()


async def test_a_file_is_fetched_once_under_its_name(world: World) -> None:
    url = await world.offer("test.file", "content")
    assert await world.get(url) == (200, "content", 'attachment; filename="my_file.tar"')
    assert (await world.get(url))[0] == 404


async def test_nobody_fetches_it_without_its_token_or_under_another_number(world: World) -> None:
    url = await world.offer("test.file", "content")
    number, _, token = url.rpartition("?auth_token=")
    for wrong in (number, number + "?auth_token=x", f"/_download/99?auth_token={token}", "/_download/x"):
        assert (await world.get(wrong))[0] == 404
    assert (await world.get(url))[0] == 200


async def test_a_job_that_fails_says_why_instead(world: World) -> None:
    status, text, _ = await world.get(await world.offer("test.fails"))
    assert (status, text) == (500, "Job 1 made no file: The disk is full\n")


@pytest.mark.parametrize("method", ["test.other", "core.ping", "no.such"])
async def test_only_a_job_that_gives_a_file_is_begun(world: World, method: str) -> None:
    with pytest.raises(Refused, match="gives no file"):
        await world.offer(method, "content")


async def test_a_name_leads_to_no_other_header(world: World) -> None:
    url = await world.offer("test.file", "content", filename='../../x"\r\nSet-Cookie: a=b')
    assert (await world.get(url))[2] == 'attachment; filename="_.._x_Set-Cookie_a_b"'
