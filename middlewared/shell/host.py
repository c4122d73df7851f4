"""The real ports.Host: /etc/hostname, /etc/resolv.conf, /etc/hosts, default routes and addresses of this controller.

Files are replaced whole, by rename, so that no reader ever sees half of one. Each carries a first line that says who
wrote it. A file that is equal already is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import HostLink
from middlewared.shell.interfaces import Interfaces
from middlewared.shell.routes import DefaultRoutes
from middlewared.shell.rtnl import Rtnl

BANNER = "# Written by middlewared from network.configuration; changes here are lost.\n"
_LOCAL_HOSTS = ("127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback")


class EtcHost:
    """Acts on the files below `etc` and on the kernel's routes in this network namespace."""

    def __init__(self, etc: Path = Path("/etc"), interlink: str = "") -> None:
        self._etc = etc
        self._rtnl = Rtnl()
        self._routes = DefaultRoutes(self._rtnl)
        self._interfaces = Interfaces(self._rtnl, interlink)
        self._servers: tuple[tuple[int, int], list[str]] = ((0, 0), [])

    async def set_hostname(self, hostname: str) -> None:
        self._replace("set the host name", "hostname", hostname + "\n")
        if socket.gethostname() != hostname:
            try:
                socket.sethostname(hostname)
            except OSError as e:
                raise PortFailed("set the host name", str(e)) from None

    async def write_resolv_conf(self, nameservers: Sequence[str], search: Sequence[str]) -> None:
        lines = [f"nameserver {server}\n" for server in nameservers]
        if search:
            lines.insert(0, f"search {' '.join(search)}\n")
        self._replace("write the name servers", "resolv.conf", BANNER + "".join(lines))

    async def write_hosts(self, hostname: str, domain: str, lines: Sequence[str]) -> None:
        own = f"127.0.1.1 {hostname}.{domain} {hostname}" if domain else f"127.0.1.1 {hostname}"
        self._replace("write the hosts file", "hosts", BANNER + "".join(f"{x}\n" for x in (*_LOCAL_HOSTS, own, *lines)))

    async def set_default_route(self, family: Literal[4, 6], gateway: str | None) -> None:
        await self._routes.set_gateway(family, gateway)

    async def nameservers(self) -> Sequence[str]:
        path = self._etc / "resolv.conf"
        try:
            found = path.stat()
            seen = (found.st_mtime_ns, found.st_ino)
            if seen != self._servers[0]:
                words = (line.split() for line in path.read_text(errors="replace").splitlines())
                self._servers = seen, [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
        except OSError:
            return []
        return self._servers[1]

    async def default_route(self, family: Literal[4, 6]) -> str | None:
        return await self._routes.gateway(family)

    async def interfaces(self) -> Sequence[HostLink]:
        return await self._interfaces.all()

    async def set_addresses(self, wanted: Mapping[str, Sequence[tuple[str, int]]]) -> None:
        await self._interfaces.set_addresses(wanted)

    async def close(self) -> None:
        """Nothing is asked of it any more."""
        await self._rtnl.close()

    def _replace(self, purpose: str, name: str, text: str) -> None:
        path = self._etc / name
        try:
            with contextlib.suppress(FileNotFoundError):
                if path.read_bytes() == text.encode():
                    return
            temporary = path.with_name(f".{name}.middlewared")
            temporary.write_text(text)
            temporary.chmod(0o644)
            try:
                temporary.replace(path)
            except OSError as e:
                # A container's own resolv.conf is a bind mount, which cannot be renamed over.
                if e.errno != errno.EBUSY:
                    raise
                path.write_text(text)
                temporary.unlink()
        except OSError as e:
            raise PortFailed(purpose, f"{path}: {e.strerror or os.strerror(e.errno or 0)}") from None
