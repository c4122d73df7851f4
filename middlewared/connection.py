"""A client's websocket to one controller: the calls that wait on it, and the subscriptions that it carries."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from middlewared.kernel.errors import CallFailed, MiddlewareError, OutcomeUnknown, PortFailed
from middlewared.protocol import rpc
from middlewared.shell.websocket_client import Address, Link, open_link
from middlewared.subscriptions import Subscription

JOBS = "core.get_jobs"

Progress = Callable[[Mapping[str, Any]], None]
"""Told a job as `core.get_jobs` shows it: `state`, `progress` {percent, description}, `id` and the rest."""


class Connection:
    """One websocket with the calls and subscriptions on it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[str, asyncio.Future[rpc.Reply]] = {}
        self._on_result: dict[str, Callable[[object], None]] = {}
        self._subscriptions: list[Subscription] = []
        self._progress: dict[str, Progress] = {}
        self._hears_jobs = False
        self._reader = asyncio.create_task(self._read())
        self._retired = False
        self._closing: asyncio.Task[None] | None = None
        self.lost: PortFailed | None = None
        self.remembers = False
        """The server carries out a write that comes again under its id only once."""
        self._repeatable: dict[str, bool] | None = None

    @classmethod
    async def open(cls, address: Address, options: Mapping[str, bool], timeout_s: float) -> Connection:
        """Connect and say how to be answered. Raises PortFailed."""
        until = time.monotonic() + timeout_s
        self = cls(await open_link(address, timeout_s))
        try:
            told = await self.request("core.set_options", [dict(options)], max(0.1, until - time.monotonic()))
            self.remembers = isinstance(told.result, Mapping) and told.result.get("remembers_requests") is True
        except MiddlewareError as e:
            await self.close()
            raise PortFailed(f"connect to {address.uri}", str(e)) from None
        return self

    async def request(
        self,
        method: str,
        params: Sequence[object],
        timeout_s: float,
        on_result: Callable[[object], None] | None = None,
        progress: Progress | None = None,
        id_: str | None = None,
    ) -> rpc.Reply:
        """Call and wait. Raises what the server says, PortFailed if nothing was sent, OutcomeUnknown after that.

        on_result: called with the result before any message after it is looked at. progress: told of every change of
        the job that the call begins. id_: a UUID under which a write is remembered; None: a new one.
        """
        if self.lost is not None:
            raise self.lost
        id_ = id_ or str(uuid.uuid4())
        until = time.monotonic() + timeout_s
        if progress is not None:
            await self._hear_jobs(timeout_s)
            self._progress[id_] = progress
        reply = self._waiting[id_] = asyncio.get_running_loop().create_future()
        if on_result is not None:
            self._on_result[id_] = on_result
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._link.send(rpc.encode_request(id_, method, params))
                answer: rpc.Reply = await reply
        except (TimeoutError, PortFailed):
            raise OutcomeUnknown(id_) from None
        finally:
            self._waiting.pop(id_, None)
            self._on_result.pop(id_, None)
            self._progress.pop(id_, None)
            if self._retired:
                self.retire()
        if answer.error is not None:
            raise rpc.exception_of(answer.error)
        return answer

    async def may_repeat(self, method: str, timeout_s: float) -> bool:
        """Whether the server carries out `method` only once however often it is sent under one id."""
        if not self.remembers:
            return False
        if self._repeatable is None:
            methods = (await self.request("core.get_methods", [], timeout_s)).result
            entries = methods.items() if isinstance(methods, Mapping) else ()
            self._repeatable = {name: m.get("kind") == "write" and not m.get("job") for name, m in entries}
        return self._repeatable.get(method, False)

    async def _hear_jobs(self, timeout_s: float) -> None:
        if not self._hears_jobs:
            try:
                await self.request("core.subscribe", [JOBS], timeout_s)
            except OutcomeUnknown:
                # The call itself was not sent.
                raise PortFailed(f"hear of jobs at {self._link.address.uri}", "no answer") from None
            self._hears_jobs = True

    async def subscribe(self, name: str, timeout_s: float, options: Mapping[str, object] | None = None) -> Subscription:
        """Hear of a collection, or of all with `*`. options: as `core.subscribe` takes them."""
        subscription = Subscription(name, addressed=options is not None)
        self._subscriptions.append(subscription)
        params = [name] if options is None else [name, dict(options)]
        try:
            await self.request("core.subscribe", params, timeout_s, subscription.begin)
        except BaseException:
            self._subscriptions.remove(subscription)
            raise
        return subscription

    async def unsubscribe(self, subscription: Subscription, timeout_s: float) -> None:
        """Hear no more of it."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            await self.request("core.unsubscribe", [subscription.id], timeout_s)

    def retire(self) -> None:
        """Close it when the calls that are under way have their answers."""
        self._retired = True
        if not self._waiting and self._closing is None:
            self._closing = asyncio.create_task(self.close())

    async def close(self) -> None:
        """End it now, and what waits on it."""
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        self._lose(PortFailed(f"use {self._link.address.uri}", "this side closed the connection"))
        await self._link.close()

    async def _read(self) -> None:
        try:
            while True:
                self._take(rpc.decode_incoming(await self._link.receive()))
        except PortFailed as e:
            self._lose(e)
        except msgspec.DecodeError as e:
            self._lose(PortFailed(f"receive from {self._link.address.uri}", f"no JSON-RPC: {e}"))

    def _take(self, message: rpc.Reply | rpc.Notice) -> None:
        if isinstance(message, rpc.Reply):
            waiting = self._waiting.get(str(message.id))
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
                if message.error is None and (on_result := self._on_result.get(str(message.id))) is not None:
                    on_result(message.result)
            return
        if self._progress and message.params.get("collection") == JOBS:
            self._tell_progress(message.params.get("fields"))
        for subscription in [s for s in self._subscriptions if s.hears(message.params)]:
            if message.method == "collection_update":
                subscription.put(message.params)
            elif subscription.is_ended_by(message.params):
                self._subscriptions.remove(subscription)
                subscription.end(_end_of(message.params.get("error")))

    def _tell_progress(self, job: object) -> None:
        if not isinstance(job, Mapping) or not isinstance(job.get("message_ids"), list):
            return
        for id_ in job["message_ids"]:
            if id_ in self._progress:
                self._progress[id_](job)

    def _lose(self, why: PortFailed) -> None:
        if self.lost is not None:
            return
        self.lost = why
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(why)
        for subscription in self._subscriptions:
            subscription.end(why)


def _end_of(error: object) -> MiddlewareError | None:
    if error is None:
        return None
    detail = msgspec.convert(error, rpc.Detail)
    extra = detail.extra if isinstance(detail.extra, Mapping | list) else None
    return CallFailed(detail.error, detail.reason, extra)
