"""The port `Power` over the lab's cable to the other controller's power: a unix socket that the bench listens on."""

from __future__ import annotations

import asyncio

import msgspec

from middlewared.kernel.register import Silent
from middlewared.protocol import bmc

OFF_S = 10.0
"""A machine needs seconds until the last of its processes is dead."""
STATUS_S = 1.0


class LabPower:
    """path: the socket. A cable for each question: it is asked seldom, and none is left hanging."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def power_off(self) -> str | None:
        answer = await self._ask(bmc.Ask(verb="power_off"), OFF_S)
        if isinstance(answer, Silent):
            return answer.why
        return "it is still on" if answer else None

    async def is_on(self) -> bool | Silent:
        return await self._ask(bmc.Ask(verb="status"), STATUS_S)

    async def _ask(self, ask: bmc.Ask, within_s: float) -> bool | Silent:
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_unix_connection(self._path)
                try:
                    writer.write(bmc.encode(ask))
                    said = bmc.decode_said(await reader.readline())
                finally:
                    writer.close()
        except TimeoutError:
            return Silent(f"{self._path}: no answer within {within_s:g} s")
        except OSError as e:
            return Silent(f"{self._path}: {e.strerror or e}")
        except (msgspec.DecodeError, ValueError) as e:
            return Silent(f"{self._path}: {e}")
        return Silent(said.error or "it does not say") if said.on is None else said.on
