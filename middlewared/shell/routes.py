"""The default routes of this network namespace, by pyroute2.

Only routes that were set here are ever taken away; they are marked by their protocol number. A route
that is set takes the place of one with the same metric, whoever made that.
"""

from __future__ import annotations

import asyncio
import socket
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal

from middlewared.shell.rtnl import PROTOCOL, Rtnl

if TYPE_CHECKING:
    from pyroute2 import IPRoute

REMEMBER_S = 1.0
"""How old an answer about the kernel's routes may be: asking costs 3 ms, and every reply of `network` tells them."""
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class DefaultRoutes:
    """Reads and sets them. Every call raises PortFailed."""

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl
        self._known: dict[Literal[4, 6], tuple[float, str | None]] = {}
        self._asking = asyncio.Lock()

    async def gateway(self, family: Literal[4, 6]) -> str | None:
        """The gateway of the first default route, whoever set it, as it was at most REMEMBER_S ago."""
        async with self._asking:  # Once, however many want to know.
            at, known = self._known.get(family, (-REMEMBER_S, None))
            now = time.monotonic()
            if now - at >= REMEMBER_S:
                purpose = f"read the IPv{family} default route"
                known = await self._rtnl.ask(purpose, lambda netlink: _gateway(netlink, family))
                self._known[family] = (now, known)
            return known

    async def set_gateway(self, family: Literal[4, 6], gateway: str | None) -> None:
        """Have exactly this default route of ours, or none of ours."""
        await self._rtnl.ask(
            f"set the IPv{family} default route to {gateway}", lambda netlink: _set(netlink, family, gateway)
        )
        self._known.pop(family, None)


def _gateway(netlink: IPRoute, family: Literal[4, 6]) -> str | None:
    routes = netlink.get_default_routes(family=_FAMILY[family])
    return next((str(gateway) for route in routes if (gateway := route.get_attr("RTA_GATEWAY"))), None)


def _set(netlink: IPRoute, family: Literal[4, 6], gateway: str | None) -> None:
    common = {"family": _FAMILY[family], "dst": "default", "proto": PROTOCOL}
    gateway = str(ip_address(gateway)) if gateway is not None else None
    if gateway is not None and gateway not in _ours(netlink, family):
        # Before the old ones go: a gateway that the kernel refuses must not cost the one that works.
        netlink.route("replace", gateway=gateway, **common)
    for old in _ours(netlink, family):
        if old != gateway:
            netlink.route("del", gateway=old, **common)


def _ours(netlink: IPRoute, family: Literal[4, 6]) -> list[str]:
    """The gateways of the default routes that were set here."""
    routes = netlink.get_default_routes(family=_FAMILY[family])
    return [str(route.get_attr("RTA_GATEWAY")) for route in routes if route["proto"] == PROTOCOL]
