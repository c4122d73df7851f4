"""The Python client: call methods, hear of changes, and go on by itself when the controllers change places.

    async with Client("http://10.0.0.1", "http://10.0.0.2", username="root", password="...") as client:
        await client.call("network.configuration.update", {"hostname": "nas"})

What happens when a controller dies in the middle of a call:

    the call was not sent                           it goes to the next address
    it was refused: that controller is standby      it goes to the addresses that the refusal names
    it was refused: no controller has the role yet  it is sent again after the time that the refusal names
    it was sent, and the answer is lost             a method that only asks is sent again; a write is sent again under
                                                    its id, which does it once (docs/api.md, "Asking again"); any other
                                                    raises OutcomeUnknown, because sending it twice may do it twice

Every wait is bounded by the call's `timeout_s`. A write whose answer was lost raises OutcomeUnknown when that is over,
or when the controller that could be asked is of a build that remembers no requests.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from middlewared.connection import Connection, Progress
from middlewared.kernel.errors import MiddlewareError, NotActive, NotAuthorized, OutcomeUnknown, PortFailed
from middlewared.protocol import rpc
from middlewared.protocol.rpc import errname
from middlewared.sending import ROUND_S, Sending, only_asks
from middlewared.shell.websocket_client import FORMS, Address, parse
from middlewared.subscriptions import PATIENCE_S, Following, Notice, Subscription

__all__ = ["FORMS", "Client", "Connection", "Following", "Subscription", "SyncClient", "errname", "only_asks", "parse"]

T = TypeVar("T")

CONNECT_S = 10.0
CALL_S = 60.0
JOB_S = 86_400.0
OPTIONS = {"legacy_jobs": False, "private_methods": False, "py_exceptions": False}


class Client:
    """A client of one system, whichever of its addresses answers.

    uris: tried in this order, the one that worked last first. username, password: logged in on every connection.
    durability: replies to writes carry where they stand in the log. patience_s: how long to go round the addresses
    when none answers, within the call's timeout; 0: once.
    """

    def __init__(
        self,
        *uris: str,
        username: str | None = None,
        password: str | None = None,
        durability: bool = False,
        connect_s: float = CONNECT_S,
        patience_s: float = 0.0,
    ) -> None:
        if not uris:
            raise PortFailed("connect", "no address was given")
        self._addresses = [parse(uri) for uri in uris]
        self._login = (username, password or "") if username is not None else None
        self._options = {**OPTIONS, "durability": True} if durability else OPTIONS
        self._connect_s = connect_s
        self._patience_s = patience_s
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def uri(self) -> str:
        """The address that is used, or will be tried first."""
        return self._addresses[0].uri

    async def ping(self, timeout_s: float = 10.0) -> object:
        """Whether anyone is there: "pong"."""
        return await self.call("core.ping", timeout_s=timeout_s)

    async def call(
        self,
        method: str,
        *params: object,
        timeout_s: float = CALL_S,
        again: bool | None = None,
        request_id: str | None = None,
    ) -> object:
        """Call a method and return its result; see `request`."""
        reply = await self.request(method, params, timeout_s=timeout_s, again=again, request_id=request_id)
        return reply.result

    async def call_job(
        self,
        method: str,
        *params: object,
        progress: Progress | None = None,
        timeout_s: float = JOB_S,
        request_id: str | None = None,
    ) -> object:
        """Call a method that is a job, wait for its end, and return its result.

        progress: called with the job at each of its changes. timeout_s: for all of it. request_id: a UUID, to ask again
        for a job whose outcome was unknown. Raises what the job raised, CallFailed (ECANCELED) where it was aborted,
        and OutcomeUnknown when the time is over, or the controller goes down meanwhile; the job may go on.
        """
        heard = progress if progress is not None else lambda _: None
        reply = await self.request(
            method, params, timeout_s=timeout_s, again=False, progress=heard, request_id=request_id
        )
        return reply.result

    async def request(
        self,
        method: str,
        params: Sequence[object],
        *,
        timeout_s: float = CALL_S,
        again: bool | None = None,
        progress: Progress | None = None,
        request_id: str | None = None,
    ) -> rpc.Reply:
        """Call a method and return the whole reply, `meta` included.

        again: whether it may be sent a second time when the answer to the first is lost; None: if that does no harm.
        request_id: a UUID, to ask again for a write whose outcome was unknown; None: a new one.
        Raises Refused, UnknownMethod, CallFailed and its children as the server says, PortFailed when no address
        answers, OutcomeUnknown.
        """
        sending = Sending(method, again, time.monotonic() + timeout_s, request_id or str(uuid.uuid4()))
        while True:
            connection = await self._connected_for(sending)
            try:
                return await connection.request(
                    method, params, sending.left_s, progress=progress, id_=sending.request_id
                )
            except NotActive as e:
                await asyncio.sleep(sending.redirected(self._go_to(_urls(e), connection), e))
            except MiddlewareError as e:
                await asyncio.sleep(sending.failed(e))
                if connection.lost is not None:
                    self._prefer_others(connection)

    async def _connected_for(self, sending: Sending) -> Connection:
        """A connection on which the call may be sent. Once its outcome is unknown, whatever fails is tried again."""
        while True:
            try:
                connection = await self._connected(sending.until)
                allowed = await sending.may_go_on(connection)
            except MiddlewareError as e:
                await asyncio.sleep(sending.not_connected(e))
                continue
            if not allowed and sending.unknown is not None:
                raise sending.unknown
            return connection

    async def subscribe(
        self, name: str, *, since: int | None = None, timeout_s: float = CONNECT_S
    ) -> AsyncIterable[Notice]:
        """Hear of a collection until the connection is lost (PortFailed); with `since`, as `follow` does."""
        if since is not None:
            return await self.follow(name, since=since, timeout_s=timeout_s)
        until = time.monotonic() + timeout_s
        return await (await self._connected(until)).subscribe(name, timeout_s)

    async def follow(
        self,
        name: str,
        *,
        since: int | None = None,
        term: int | None = None,
        timeout_s: float = CONNECT_S,
        patience_s: float = PATIENCE_S,
    ) -> Following:
        """Hear of a collection for as long as the system is there: over lost connections and changes of roles.

        since, term: the last record that is known; without, from now on. patience_s: how long to look for a controller
        that goes on where another left off. What comes from the log is heard once and in order. Raises Refused.
        """
        following = Following(
            name, partial(self._subscribe, timeout_s), partial(self._forget, timeout_s), self._present, patience_s
        )
        await following.begin(since, term)
        return following

    async def _subscribe(self, timeout_s: float, name: str, options: Mapping[str, object]) -> Subscription:
        until = time.monotonic() + timeout_s
        return await (await self._connected(until)).subscribe(name, timeout_s, options)

    async def _forget(self, timeout_s: float, subscription: Subscription) -> None:
        if self._connection is not None:
            with suppress(MiddlewareError):
                await self._connection.unsubscribe(subscription, timeout_s)

    async def _present(self, name: str) -> list[Notice]:
        """What the collections show that are answers of queries: `name`, or every one for `*`."""
        events = await self.call("core.get_events")
        found = []
        for collection, event in events.items() if isinstance(events, dict) else ():
            if name in (collection, "*") and event.get("query"):
                answer = await self.call(event["query"])
                found.append({"msg": "changed", "collection": collection, "fields": {event["field"]: answer}})
        return found

    async def close(self) -> None:
        """End the connection, and what waits on it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self, until: float) -> Connection:
        """The connection, or a new one to the first address that answers. Raises PortFailed, NotAuthorized."""
        async with self._connecting:  # One connection, however many calls want it.
            if self._connection is None or self._connection.lost is not None:
                await self.close()
                self._connection = await self._find(until)
            return self._connection

    async def _find(self, until: float) -> Connection:
        """Go round the addresses, and again while patience lasts."""
        give_up = min(until, time.monotonic() + self._patience_s)
        while True:
            tried: list[Address] = []
            # A redirection puts new addresses in front: the next is looked up again each time.
            while (address := next((a for a in self._addresses if a not in tried), None)) is not None:
                tried.append(address)
                try:
                    return await self._connect(address, min(self._connect_s, max(0.1, until - time.monotonic())))
                except (PortFailed, NotActive) as e:
                    failed = e
            if time.monotonic() + ROUND_S >= give_up:
                raise failed
            await asyncio.sleep(ROUND_S)

    async def _connect(self, address: Address, timeout_s: float) -> Connection:
        connection = await Connection.open(address, self._options, timeout_s)
        try:
            if self._login is not None:
                await self._log_in(connection, *self._login, timeout_s)
        except OutcomeUnknown:
            await connection.close()
            raise PortFailed(f"log in at {address.uri}", f"no answer within {timeout_s:g} s") from None
        except BaseException:
            await connection.close()
            raise
        self._prefer([address])
        return connection

    async def _log_in(self, connection: Connection, username: str, password: str, timeout_s: float) -> None:
        wanted = {"mechanism": "PASSWORD_PLAIN", "username": username, "password": password}
        answer = (await connection.request("auth.login_ex", [wanted], timeout_s)).result
        match answer:
            case {"response_type": "SUCCESS"}:
                return
            case {"response_type": "REDIRECT", "urls": [*urls]}:
                self._prefer([parse(str(url)) for url in urls])
                raise NotActive("?", [str(url) for url in urls])
            case _:
                raise NotAuthorized(f"{username} may not log in: wrong name or password")

    def _go_to(self, urls: Sequence[str], refused_by: Connection) -> bool:
        """Use another address from now on, one of `urls` if it was given. False: only one was given."""
        if self._connection is not refused_by:
            return True  # Another call was refused before, and has moved already.
        active = {parse(url) for url in urls}
        others = [address for address in self._addresses if address.uri != self.uri]
        if not others:
            return False
        self._connection = None
        refused_by.retire()
        self._prefer([address for address in others if address in active] or others)
        return True

    def _prefer_others(self, lost: Connection) -> None:
        """Where an answer was lost, the other controller is likelier to answer."""
        if self._connection is lost:
            self._prefer(self._addresses[1:])

    def _prefer(self, first: Collection[Address]) -> None:
        """Try these first. An address that was not given is never used, whoever names it."""
        self._addresses.sort(key=lambda address: address not in first)


def _urls(refusal: NotActive) -> list[str]:
    extra = refusal.extra
    urls = extra.get("active_urls") if isinstance(extra, Mapping) else None
    return [str(url) for url in urls] if isinstance(urls, list | tuple) else []


class SyncClient:
    """The same client for code without an event loop; it runs one in a thread, so that pings are answered."""

    def __init__(self, *uris: str, **settings: Any) -> None:
        """Arguments as for Client."""
        self._client = Client(*uris, **settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="middlewared-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def call(self, method: str, *params: object, **settings: Any) -> object:
        """As Client.call."""
        return self._run(self._client.call(method, *params, **settings))

    def call_job(self, method: str, *params: object, **settings: Any) -> object:
        """As Client.call_job; `progress` is called in the client's own thread."""
        return self._run(self._client.call_job(method, *params, **settings))

    def subscribe(self, name: str, **settings: Any) -> Iterator[Notice]:
        """As Client.subscribe."""
        return self._each(self._client.subscribe(name, **settings))

    def follow(self, name: str, **settings: Any) -> Iterator[Notice]:
        """As Client.follow."""
        return self._each(self._client.follow(name, **settings))

    def _each(self, subscribing: Coroutine[Any, Any, AsyncIterable[Notice]]) -> Iterator[Notice]:
        notices = aiter(self._run(subscribing))
        while (notice := self._run(_next(notices))) is not None:
            yield notice

    def close(self) -> None:
        """End the connection and the thread."""
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONNECT_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _next(notices: AsyncIterator[Notice]) -> Notice | None:
    return await anext(notices, None)
