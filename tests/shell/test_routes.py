"""Default routes, in a network namespace of the test. Needs root."""

from __future__ import annotations

import asyncio
import threading

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.shell.routes import DefaultRoutes
from middlewared.shell.rtnl import Rtnl
from tests.shell.namespace import inside, ip


def lan() -> None:
    """An interface with an address of each family; nothing is at its other end."""
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "far0")
    ip("addr", "add", "10.0.0.5/24", "dev", "lan0")
    ip("addr", "add", "fd00::5/64", "dev", "lan0", "nodad")
    ip("link", "set", "far0", "up")
    ip("link", "set", "lan0", "up")


def defaults(family: str) -> list[str]:
    return [line.split(" proto")[0].strip() for line in ip(family, "route", "show", "default").splitlines()]


def test_after_the_end_it_holds_no_socket_and_no_thread() -> None:
    async def work() -> None:
        before = set(threading.enumerate())
        rtnl = Rtnl()
        await DefaultRoutes(rtnl).gateway(4)
        await rtnl.close()
        async with asyncio.timeout(5):
            while set(threading.enumerate()) > before:  # noqa: ASYNC110 - a thread that ends tells nobody
                await asyncio.sleep(0.002)

    inside(work)


def test_without_a_default_route_there_is_no_gateway() -> None:
    async def work() -> None:
        lan()
        routes = DefaultRoutes(Rtnl())
        assert await routes.gateway(4) is None
        assert await routes.gateway(6) is None
        await routes.set_gateway(4, None)

    inside(work)


def test_a_gateway_is_set_changed_and_taken_away_in_each_family() -> None:
    async def work() -> None:
        lan()
        routes = DefaultRoutes(Rtnl())
        await routes.set_gateway(4, "10.0.0.1")
        await routes.set_gateway(6, "fd00::1")
        assert (await routes.gateway(4), await routes.gateway(6)) == ("10.0.0.1", "fd00::1")
        assert "proto 208" in ip("-4", "route", "show", "default")
        await routes.set_gateway(4, "10.0.0.2")
        await routes.set_gateway(6, "FD00:0::2")
        await routes.set_gateway(6, "FD00:0::2")
        assert defaults("-4") == ["default via 10.0.0.2 dev lan0"]
        assert defaults("-6") == ["default via fd00::2 dev lan0"]
        await routes.set_gateway(4, None)
        await routes.set_gateway(6, None)
        assert defaults("-4") == defaults("-6") == []

    inside(work)


def test_a_route_that_somebody_else_set_is_read_and_never_taken_away() -> None:
    async def work() -> None:
        lan()
        ip("route", "add", "default", "via", "10.0.0.254", "metric", "100")
        routes = DefaultRoutes(Rtnl())
        assert await routes.gateway(4) == "10.0.0.254"
        await routes.set_gateway(4, "10.0.0.1")
        assert defaults("-4") == ["default via 10.0.0.1 dev lan0", "default via 10.0.0.254 dev lan0 metric 100"]
        await routes.set_gateway(4, None)
        assert defaults("-4") == ["default via 10.0.0.254 dev lan0 metric 100"]

    inside(work)


def test_a_gateway_that_cannot_be_reached_is_refused_and_the_one_before_stays() -> None:
    async def work() -> None:
        lan()
        routes = DefaultRoutes(Rtnl())
        await routes.set_gateway(4, "10.0.0.1")
        with pytest.raises(PortFailed, match=r"^set the IPv4 default route to 192\.0\.2\.1: .*unreachable"):
            await routes.set_gateway(4, "192.0.2.1")
        assert await routes.gateway(4) == "10.0.0.1"

    inside(work)
