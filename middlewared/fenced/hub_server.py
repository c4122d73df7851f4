"""The hub's socket: SEQPACKET, one message a packet, in the run directory and for root alone.

A client that does not read until its buffer is full is dropped: everything said here is a whole statement, and it gets
all of them again when it comes back.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from middlewared.protocol import hub
from middlewared.shell.journal import Journal

note = Journal("fenced").note


class Client:
    """One connection. who: what its Hello said, None before that."""

    def __init__(self, sock: socket.socket, server: HubServer) -> None:
        self.who: str | None = None
        self._sock = sock
        self._server = server

    def send(self, message: hub.FromFenced) -> None:
        if self._sock.fileno() == -1:
            return
        try:
            self._sock.send(hub.encode(message))
        except OSError as e:
            self._server.drop(self, f"cannot be sent to: {e.strerror}")

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive(self) -> bytes:
        return self._sock.recv(hub.MAX_PACKET)

    def close(self) -> None:
        self._sock.close()


class HubServer:
    """Listens, decodes, and hands each message on; knows nothing of their meaning.

    on_message(client, message): after the client said Hello, and for the Hello itself. on_gone(client): it left.
    """

    def __init__(
        self,
        path: str,
        *,
        on_message: Callable[[Client, hub.ToFenced], None],
        on_gone: Callable[[Client], None],
    ) -> None:
        self._path = path
        self._on_message = on_message
        self._on_gone = on_gone
        self._socket: socket.socket | None = None
        self._clients: set[Client] = set()

    def open(self) -> None:
        """Listen. Raises OSError."""
        Path(self._path).unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        try:
            sock.bind(self._path)
        finally:
            os.umask(mask)
        sock.listen(16)
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for client in list(self._clients):
            self.drop(client, None)

    def say(self, who: str, message: hub.FromFenced) -> None:
        """Tell every client of that kind."""
        for client in list(self._clients):
            if client.who == who:
                client.send(message)

    def has(self, who: str) -> bool:
        return any(client.who == who for client in self._clients)

    def drop(self, client: Client, why: str | None) -> None:
        """End the connection. why: None when the client itself left."""
        if client not in self._clients:
            return
        self._clients.discard(client)
        asyncio.get_running_loop().remove_reader(client.fileno())
        client.close()
        if why is not None:
            note("client-dropped", who=client.who, why=why)
        self._on_gone(client)

    def _accept(self, listening: socket.socket) -> None:
        try:
            sock, _ = listening.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        client = Client(sock, self)
        self._clients.add(client)
        asyncio.get_running_loop().add_reader(sock, self._readable, client)

    def _readable(self, client: Client) -> None:
        try:
            packet = client.receive()
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self.drop(client, None)
            return
        try:
            message = hub.decode_to_fenced(packet)
        except msgspec.DecodeError as e:
            self.drop(client, f"sent what is no message: {e}")
            return
        if isinstance(message, hub.Hello):
            self._greet(client, message)
        elif client.who is None:
            self.drop(client, "did not begin with Hello")
            return
        self._on_message(client, message)

    def _greet(self, client: Client, hello: hub.Hello) -> None:
        """The newest of a kind is the one; an older connection of it is a process that is gone or doubled."""
        client.who = hello.who
        for old in list(self._clients):
            if old is not client and old.who == hello.who:
                self.drop(old, f"replaced by pid {hello.pid}")
