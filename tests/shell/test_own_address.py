from __future__ import annotations

import asyncio
import json

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.shell.own_address import give_address
from tests.shell.namespace import inside, ip


def addresses(interface: str) -> list[tuple[str, int, str]]:
    (shown,) = json.loads(ip("-j", "addr", "show", "dev", interface))
    return [
        (info["local"], info["prefixlen"], info["scope"])
        for info in shown["addr_info"]
        if not info["local"].startswith("fe80:")
    ]


def test_the_interface_gets_its_address_and_comes_up_and_a_second_time_nothing_changes() -> None:
    async def work() -> None:
        ip("link", "add", "il0", "type", "veth", "peer", "name", "other")
        for _ in range(2):
            give_address("il0", "169.254.10.1", 30, 0.0)
            assert addresses("il0") == [("169.254.10.1", 30, "link")]
        give_address("il0", "fd00::1", 64, 0.0)
        assert addresses("il0")[1:] == [("fd00::1", 64, "global")]
        assert "UP" in json.loads(ip("-j", "link", "show", "dev", "il0"))[0]["flags"]

    inside(work)


def test_an_interface_that_appears_late_is_waited_for() -> None:
    async def work() -> None:
        waiting = asyncio.create_task(asyncio.to_thread(give_address, "il1", "10.0.0.1", 24, 10.0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        ip("link", "add", "il1", "type", "veth", "peer", "name", "other")
        await waiting
        assert addresses("il1") == [("10.0.0.1", 24, "global")]

    inside(work)


def test_one_that_is_not_there_is_named_with_those_that_are() -> None:
    async def work() -> None:
        with pytest.raises(PortFailed, match="there is no interface il7; there are: lo"):
            give_address("il7", "10.0.0.1", 24, 0.0)

    inside(work)
