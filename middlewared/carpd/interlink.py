"""The heartbeat line to the other controller: one UDP socket on the interlink."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address

from middlewared import config
from middlewared.protocol.heartbeat import MAX_SIZE
from middlewared.shell.journal import Journal

_AT_ONCE = 64
_RETRY_S = 0.5


class Interlink:
    """Datagrams to and from the peer. on_readable is called in the loop when some wait.

    The socket is bound to the interface, so that a heartbeat which came by any other is never heard; it is opened anew
    when that interface was.
    """

    def __init__(self, settings: config.Interlink, journal: Journal, on_readable: Callable[[], None]) -> None:
        self._settings = settings
        self._journal = journal
        self._on_readable = on_readable
        self._socket: socket.socket | None = None
        self._retry_at = 0.0
        self._fault = ""

    def send(self, datagram: bytes, now: float) -> None:
        """Send one; it is lost while there is no way to the peer."""
        if self._socket is None:
            self._open(now)
        if self._socket is None:
            return
        try:
            self._socket.sendto(datagram, (self._settings.peer, self._settings.port))
        except BlockingIOError:
            return
        except OSError as e:
            self._note(e)

    def read(self) -> list[bytes]:
        """What waits, at most a few dozen at once."""
        found: list[bytes] = []
        while self._socket is not None and len(found) < _AT_ONCE:
            try:
                datagram, (sender, *_) = self._socket.recvfrom(MAX_SIZE + 1)
            except BlockingIOError:
                break
            except OSError as e:
                # An ICMP error of an earlier datagram, or the interface went away.
                self._note(e)
                break
            if sender.partition("%")[0] == self._settings.peer:
                found.append(datagram)
        return found

    def discard(self) -> None:
        while self.read():
            pass

    def reopen(self) -> None:
        """The interface changed: a socket that is bound to one that went away would stay deaf."""
        self.close()
        self._retry_at = 0.0

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _open(self, now: float) -> None:
        if now < self._retry_at:
            return
        self._retry_at = now + _RETRY_S
        family = socket.AF_INET if ip_address(self._settings.address).version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._settings.interface.encode() + b"\0")
            sock.bind((self._settings.address, self._settings.port))
        except OSError as e:
            sock.close()
            self._note(e)
            return
        self._socket, self._fault = sock, ""
        asyncio.get_running_loop().add_reader(sock, self._on_readable)

    def _note(self, error: OSError) -> None:
        """Say each new trouble once, not twenty times a second."""
        if str(error) != self._fault:
            self._journal.note("interlink", why=error)
        self._fault = str(error)
