"""Two controllers become a pair.

The first prints a code: 80 bits of secret and the first 80 bits of its certificate's fingerprint. The second connects
by TLS, checks the fingerprint, and proves the secret. Then, in this order:

    second -> first   JOIN    {secret, node, certificate}
    first  -> second  GRANT   {node, certificate, cluster, keys}  kept by the second before it goes on
    second -> first   KEPT                                      kept by the first

A crash in between leaves a second controller that knows the first one and is not known by it: it is paired again with a
new code. The code is good once, for ten minutes, and for five tries.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from middlewared.config import Interlink
from middlewared.kernel.errors import CallFailed, PortFailed, Refused
from middlewared.kernel.facts import Node
from middlewared.kernel.secret import KeyBundle, masked
from middlewared.shell import stream
from middlewared.shell.identity import Cluster, Keys, code_of, fingerprint, first_secret_keys, read_code

PORT_OFFSET = 1
"""The pairing has a port of its own, next to the peer link's: a controller whose peer was lost is paired anew."""
VALID_S = 600.0
TRIES = 5
TIMEOUT_S = 10.0
MAX_FRAME = 64 * 1024
_FOREIGN = "the other controller does not speak this protocol"


class Join(msgspec.Struct, frozen=True, tag="join"):
    secret: bytes
    node: Node
    certificate: str

    def __repr__(self) -> str:
        return masked(self, "secret")


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    node: Node
    certificate: str
    cluster: Cluster
    secret_keys: KeyBundle | None = None
    """None from the first build, whose log has no envelopes; it derives its first key when it is upgraded."""


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    pass


class Denied(msgspec.Struct, frozen=True, tag="denied"):
    why: str


log = logging.getLogger(__name__)

Message: TypeAlias = Join | Grant | Kept | Denied

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class PairingDoor:
    """Open while a code is good. on_paired is called once, after both have kept what they need.

    cluster: what the other becomes part of: a new one, or the one that this controller belongs to already.
    """

    def __init__(
        self, node: Node, keys: Keys, cluster: Cluster, interlink: Interlink, on_paired: Callable[[], None]
    ) -> None:
        self._node = node
        self._keys = keys
        self._cluster = cluster
        self._address = interlink.address
        self._port = interlink.port + PORT_OFFSET
        self._on_paired = on_paired
        self._secret = secrets.token_bytes(10)
        self._tries = TRIES
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        """Listen, and return the code. Raises CallFailed when the interlink's address cannot be listened on."""
        try:
            self._server = await asyncio.start_server(
                self._accept, self._address, self._port, ssl=self._keys.pairing_context(server=True)
            )
        except OSError as e:
            raise CallFailed(e.errno or 0, f"interlink {self._address}:{self._port}: {e.strerror}") from None
        asyncio.get_running_loop().call_later(VALID_S, self.close)
        return code_of(self._secret, self._keys.fingerprint())

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._talk(reader, writer)
        except (
            OSError,
            TimeoutError,
            PortFailed,
            asyncio.IncompleteReadError,
            stream.FrameTooLong,
            msgspec.DecodeError,
        ) as e:
            log.warning("event=pairing_broken_off why=%r", str(e) or type(e).__name__)
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        join = await _receive(reader)
        why = self._why_denied(join)
        if why is not None or not isinstance(join, Join):
            await _send(writer, Denied(why or "JOIN was expected"))
            return
        secret_keys = self._keys.secret_keys or first_secret_keys(self._cluster)
        await _send(writer, Grant(self._node, self._keys.certificate, self._cluster, secret_keys))
        if isinstance(await _receive(reader), Kept):
            self._keys.pair(self._cluster, join.certificate, secret_keys)
            self.close()
            self._on_paired()

    def _why_denied(self, join: Message) -> str | None:
        if not isinstance(join, Join):
            return "JOIN was expected"
        if self._tries <= 0 or self._server is None:
            return "the code is no longer good; print a new one"
        if not hmac.compare_digest(join.secret, self._secret):
            self._tries -= 1
            return "the code is wrong"
        if join.node == self._node:
            return f"both boot files say node = {self._node!r}"
        return None


async def join(
    node: Node, keys: Keys, code: str, host: str, interlink: Interlink, make_room: Callable[[], Awaitable[None]]
) -> None:
    """Join the controller at `host` that printed `code`.

    make_room: called when the other has agreed, before anything is kept: sets this controller's own log aside.
    Raises Refused for a bad code, CallFailed when the other cannot be reached or denies, PortFailed when what it said
    cannot be kept here.
    """
    parts = read_code(code)
    if parts is None:
        raise Refused(("code", "is not a pairing code: eight groups of four letters and digits"))
    secret, expected = parts
    port = interlink.port + PORT_OFFSET
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=keys.pairing_context(server=False))
            try:
                await _join(reader, writer, node, keys, secret, expected, make_room)
            finally:
                writer.close()
    except (msgspec.DecodeError, stream.FrameTooLong):
        raise CallFailed(errno.EPROTO, f"{host}:{port}: {_FOREIGN}") from None
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as e:
        raise CallFailed(errno.EHOSTUNREACH, f"{host}:{port}: {str(e) or 'no answer'}") from None


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    node: Node,
    keys: Keys,
    secret: bytes,
    expected: bytes,
    make_room: Callable[[], Awaitable[None]],
) -> None:
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    if not hmac.compare_digest(fingerprint(certificate)[:10], expected):
        raise Refused(("code", "is not the code of the controller that answers there"))
    await _send(writer, Join(secret, node, keys.certificate))
    answer = await _receive(reader)
    if isinstance(answer, Denied):
        raise Refused(("code", answer.why))
    if not isinstance(answer, Grant):
        raise CallFailed(errno.EPROTO, _FOREIGN)
    await make_room()
    keys.pair(answer.cluster, answer.certificate, answer.secret_keys)
    await _send(writer, Kept())
    # The other closes when it has kept its part; only then is it safe to start as a pair.
    await reader.read(1)


async def _receive(reader: asyncio.StreamReader) -> Message:
    return _decoder.decode(await stream.read_frame(reader, MAX_FRAME))


async def _send(writer: asyncio.StreamWriter, message: Message) -> None:
    writer.write(stream.frame(msgspec.json.encode(message)))
    await writer.drain()
