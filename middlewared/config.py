"""The boot file: what a controller must know before it can read its own configuration.

TOML, read once at start by each of the three processes. Everything else is configuration and lives in the log.

    node = "A"                          # this controller's slot in the chassis
    data_dir = "/var/lib/middlewared"   # log.db, state.db, keys, quarantine
    run_dir = "/run/middleware"         # sockets
    listen = "0.0.0.0:80"               # the API

    [interlink]                         # left out: a single controller, never paired
    interface = "il0"
    address = "169.254.10.1"
    peer = "169.254.10.2"
    port = 6000                         # TCP: the log; UDP: heartbeats

    [voters]                            # the shared disks; 3 or 5 paths of one backend
    backend = "shelf"
    paths = ["/run/shelf/0", "/run/shelf/1", "/run/shelf/2"]

    others = ["/run/shelf/3"]           # shared disks that do not vote and only hold pools

    [power]                             # left out: the other controller's power cannot be cut
    backend = "lab"

    [fence]
    reboot = "init"                     # how this controller ends itself; or "sysrq"

    [storage]
    free_floor_mib = 64                 # below this much free space in data_dir no write is taken

    [timing]                            # all have defaults; see Timing
    settle_s = 20.0
"""

from __future__ import annotations

import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import msgspec

from middlewared.kernel.errors import BadBootFile
from middlewared.kernel.facts import Node, other

DEFAULT_PATH = Path("/etc/middlewared.toml")


class Interlink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The private cable between the controllers."""

    interface: str
    address: str
    peer: str
    port: int = 6000


class Voters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shared disks. paths: those that grant terms. others: those that are reserved with the term all the same."""

    backend: Literal["shelf"]
    paths: tuple[str, ...]
    others: tuple[str, ...] = ()


class Power(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way to the other controller's power. path: the lab's cable."""

    backend: Literal["lab"]
    path: str = "/run/bmc/power"


class Fence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this controller ends itself when it must not run on: by its init (systemd does it), or by the kernel."""

    reboot: Literal["init", "sysrq"] = "init"


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The disk of the data directory."""

    free_floor_mib: int = 64


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Intervals and windows. Each relation that `BootFile.validate` holds is what keeps two owners apart."""

    settle_s: float = 20.0
    """Boot: how long the peer may stay unheard before this controller claims alone."""
    lease_s: float = 1.0
    """valid_lft of a VIP: the kernel drops it when it is not renewed."""
    renew_s: float = 0.25
    stall_s: float = 0.75
    """A renewal later than this after the last one is not made: the address may be gone and another's."""
    heartbeat_ms: int = 50
    heartbeat_dead_ms: int = 150
    advert_ms: int = 100
    advert_dead_count: int = 3
    disk_ms: int = 100
    disk_dead_ms: int = 250
    held_s: float = 1.25
    """With the interlink's carrier up, the earliest claim after the last sign of a silent owner."""


class BootFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The boot file, read and checked."""

    node: Node
    data_dir: str = "/var/lib/middlewared"
    run_dir: str = "/run/middleware"
    listen: str = "0.0.0.0:80"
    interlink: Interlink | None = None
    voters: Voters | None = None
    power: Power | None = None
    fence: Fence = Fence()
    storage: Storage = Storage()
    timing: Timing = Timing()

    @property
    def peer(self) -> Node:
        return other(self.node)

    @property
    def listen_address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def fenced_socket(self) -> str:
        return f"{self.run_dir}/fenced.sock"

    @property
    def api_socket(self) -> str:
        return f"{self.run_dir}/middlewared.sock"

    def validate(self) -> None:
        """Raise BadBootFile, naming the field, unless the fields fit each other."""
        _check_listen(self.listen)
        if self.interlink is not None:
            _check_interlink(self.interlink)
        if self.voters is not None and len(self.voters.paths) not in (3, 5):
            raise BadBootFile(f"voters.paths: 3 or 5 shared disks are needed, not {len(self.voters.paths)}")
        if self.voters is not None and len(set(self.voters.paths)) != len(self.voters.paths):
            raise BadBootFile("voters.paths: a disk that is named twice would vote twice")
        if self.voters is not None and set(self.voters.paths) & set(self.voters.others):
            raise BadBootFile("voters.others: a disk that is named in paths as well")
        if self.voters is not None and self.interlink is None:
            raise BadBootFile("voters: shared disks without an [interlink]")
        for socket in (self.fenced_socket, self.api_socket):
            if len(socket.encode()) > 107:
                raise BadBootFile(f"run_dir: {socket} is longer than the 107 bytes that a socket's name may have")
        if self.storage.free_floor_mib < 1:
            raise BadBootFile("storage.free_floor_mib: must be at least 1: the databases need room to be opened")
        _check_timing(self.timing)


def _check_listen(listen: str) -> None:
    host, colon, port = listen.rpartition(":")
    try:
        if not colon or not 0 < int(port) < 65536:
            raise ValueError(listen)
        ip_address(host.strip("[]"))
    except ValueError:
        raise BadBootFile(f"listen: {listen!r} is not ADDRESS:PORT") from None


def _check_interlink(interlink: Interlink) -> None:
    for field, address in (("address", interlink.address), ("peer", interlink.peer)):
        try:
            ip_address(address)
        except ValueError:
            raise BadBootFile(f"interlink.{field}: {address!r} is not an IP address") from None
    if interlink.address == interlink.peer:
        raise BadBootFile("interlink.peer: is this controller's own address")
    if not 0 < interlink.port < 65536:
        raise BadBootFile(f"interlink.port: {interlink.port} is not a port")


def _check_timing(t: Timing) -> None:
    rules = (
        (t.heartbeat_ms > 0, "timing.heartbeat_ms: must be more than 0"),
        (t.advert_ms > 0, "timing.advert_ms: must be more than 0"),
        (t.disk_ms > 0, "timing.disk_ms: must be more than 0"),
        (0 < t.renew_s < t.stall_s, "timing.stall_s: must be more than renew_s"),
        (t.stall_s + t.renew_s <= t.lease_s, "timing.lease_s: must be at least stall_s + renew_s"),
        (t.held_s >= t.lease_s + t.renew_s, "timing.held_s: must be at least lease_s + renew_s"),
        (t.heartbeat_dead_ms >= 3 * t.heartbeat_ms, "timing.heartbeat_dead_ms: at least 3 x heartbeat_ms"),
        (t.disk_dead_ms >= 2.5 * t.disk_ms, "timing.disk_dead_ms: must be at least 2.5 x disk_ms"),
        (t.advert_dead_count >= 3, "timing.advert_dead_count: must be at least 3"),
        (
            t.settle_s * 1000 > t.advert_dead_count * t.advert_ms + t.disk_dead_ms,
            "timing.settle_s: must be longer than it takes to notice a silent peer",
        ),
    )
    for holds, sentence in rules:
        if not holds:
            raise BadBootFile(sentence)


def load(path: Path) -> BootFile:
    """Read and check the boot file. Raises BadBootFile with one clear sentence."""
    try:
        boot = msgspec.convert(tomllib.loads(path.read_text()), BootFile, strict=True)
        boot.validate()
    except OSError as e:
        raise BadBootFile(f"{path}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise BadBootFile(f"{path}: {e}") from None
    except msgspec.ValidationError as e:
        raise BadBootFile(f"{path}: {e}") from None
    except BadBootFile as e:
        raise BadBootFile(f"{path}: {e}") from None
    return boot
