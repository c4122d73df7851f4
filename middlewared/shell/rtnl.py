"""Questions to the kernel's network by pyroute2, off the loop: one thread and one netlink socket for the whole process.

Opening one costs milliseconds, a question to an open one a fraction of one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from middlewared.kernel.errors import PortFailed

if TYPE_CHECKING:
    from pyroute2 import IPRoute

T = TypeVar("T")

TIMEOUT_S = 5.0
PROTOCOL = 208
"""Marks what was set here: routes (`ip route` shows `proto 208`) and addresses (`ip addr` shows `proto 0xd0`)."""


class Rtnl:
    """One question at a time, in the order in which they come."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rtnl")
        self._netlink: IPRoute | None = None

    async def ask(self, purpose: str, work: Callable[[IPRoute], T]) -> T:
        """What `work` returns. Raises PortFailed, after TIMEOUT_S at the latest."""

        def run() -> T:
            # Imported here: it takes 90 ms, which a daemon that starts does not have.
            from pyroute2 import IPRoute

            if self._netlink is None:
                self._netlink = IPRoute()
            return work(self._netlink)

        from pyroute2.netlink.exceptions import NetlinkError

        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except TimeoutError:
            # First, because it is an OSError as well, with nothing to say.
            raise PortFailed(purpose, f"the kernel did not answer within {TIMEOUT_S:.0f} s") from None
        except (NetlinkError, OSError) as e:
            raise PortFailed(purpose, str(e)) from None

    async def close(self) -> None:
        """Let go of the socket. Where the kernel still owes an answer, it is left to the end of the process."""

        def let_go() -> None:
            if self._netlink is not None:
                self._netlink.close()

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.get_running_loop().run_in_executor(self._thread, let_go)
        self._thread.shutdown(wait=False)
