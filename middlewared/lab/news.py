"""What `up` is told while the lab comes up, by whoever asks and whenever: lines, then the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class News:
    """The lines so far and those to come; `outcome` is what `up` prints last, or why there is no lab."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self._lines: list[str] = []
        self._more = asyncio.Event()

    def say(self, line: str) -> None:
        self._lines.append(line)
        self._wake()

    def succeeded(self, result: dict[str, object]) -> None:
        self.outcome.set_result(result)
        self._wake()

    def failed(self, error: Exception) -> None:
        self.outcome.set_exception(error)
        # Nobody may ask any more; the log has it too.
        self.outcome.exception()
        self._wake()

    async def follow(self) -> AsyncIterator[str]:
        """Every line from the first one, until the outcome is there."""
        seen = 0
        while True:
            more = self._more
            for line in self._lines[seen:]:
                yield line
            seen = len(self._lines)
            if self.outcome.done() and more is self._more:
                return
            await more.wait()

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()
