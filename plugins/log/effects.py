"""Both logs side by side: this controller's by a child process, the other's by a job there that is looked at."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.facts import Node, other
from middlewared.kernel.upkeep import LogCheck
from middlewared.plugin import JobCall

LOOK_TIMEOUT_S = 5.0
Progress = Callable[[float, str], None]


class Unchecked(msgspec.Struct, frozen=True, kw_only=True):
    """A log that could not be looked at."""

    intact: None = None
    why: str


async def verify_both(call: JobCall, node: Node | None) -> dict[Node, LogCheck | Unchecked]:
    """The verdicts, by controller. node: of that one only."""
    nodes: tuple[Node, ...] = ("A", "B") if node is None else (node,)
    if node is None and not call.controller.facts().paired:
        nodes = (call.node,)
    told: dict[Node, tuple[float, str]] = {}

    def progress_of(one: Node) -> Progress:
        def progress(percent: float, description: str) -> None:
            told[one] = (percent, description)
            lines = (f"{name}: {what}" for name, (_, what) in sorted(told.items()))
            call.progress(sum(percent for percent, _ in told.values()) / len(nodes), ", ".join(lines))

        return progress

    async def verdict(one: Node) -> LogCheck | Unchecked:
        try:
            if one == call.node:
                return await call.controller.upkeep.verify_log(progress_of(one))
            return await _verify_there(call, progress_of(one))
        except CallFailed as e:
            return Unchecked(why=e.reason)

    return dict(zip(nodes, await asyncio.gather(*(verdict(one) for one in nodes)), strict=True))


async def _verify_there(call: JobCall, progress: Progress) -> LogCheck:
    """Have the other controller walk its log. Raises CallFailed."""
    username = call.session.username or ""
    id_ = await call.controller.ask_peer("core.job_start", "log.verify_here", [], username)
    try:
        while True:
            looked = await call.controller.ask_peer("core.job_look", id_, timeout_s=LOOK_TIMEOUT_S)
            job = msgspec.convert(looked, dict[str, Any])
            progress(job["progress"]["percent"], job["progress"]["description"])
            if job["state"] == "SUCCESS":
                return msgspec.convert(job["result"], LogCheck)
            if job["state"] in ("FAILED", "ABORTED"):
                why = job["error"] or f"the job there was aborted (controller {other(call.node)})"
                raise CallFailed((job["exc_info"] or {}).get("errno", errno.ECANCELED), why)
    except asyncio.CancelledError:
        with suppress(CallFailed):
            await call.controller.ask_peer("core.job_end", id_)
        raise
