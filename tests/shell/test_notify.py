from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from middlewared.shell.notify import Init


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of an init that asks for nothing but news."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield made


def test_a_state_is_one_datagram(init: socket.socket) -> None:
    Init().say("READY=1")
    assert init.recv(100) == b"READY=1"


def test_a_name_without_a_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"middlewared-test-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("\0" + name)
        made.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        Init().say("READY=1")
        assert made.recv(100) == b"READY=1"


def test_without_an_init_or_with_one_that_is_gone_nothing_is_sent_and_nothing_fails(
    init: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker = Init()
    init.close()
    speaker.say("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    Init().say("READY=1")


def test_an_init_that_does_not_read_never_makes_the_daemon_wait(init: socket.socket) -> None:
    speaker = Init()
    for _ in range(2000):
        speaker.say("WATCHDOG=1")
    assert init.recv(100) == b"WATCHDOG=1"


async def test_where_a_watchdog_is_asked_for_a_sign_of_life_comes_twice_in_its_time(
    init: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    task = asyncio.create_task(Init().keep_alive())
    init.setblocking(False)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for _ in range(4):
        assert await asyncio.wait_for(loop.sock_recv(init, 100), 2) == b"WATCHDOG=1"
    assert 0.05 < loop.time() - start < 1
    task.cancel()


async def test_where_no_watchdog_is_asked_for_there_is_nothing_to_keep(init: socket.socket) -> None:
    await asyncio.wait_for(Init().keep_alive(), 2)
    init.setblocking(False)
    with pytest.raises(BlockingIOError):
        init.recv(100)
