"""The boot file: what a controller must know before it can read its own configuration.

TOML, read once at start by each of the three processes. Everything else is configuration and lives in the log. What the
fields must be to each other stands in boot_rules.py; docs/boot-file.md explains each.

    node = "A"                          # this controller's slot in the chassis
    data_dir = "/var/lib/middlewared"   # log.db, state.db, keys, quarantine
    run_dir = "/run/middleware"         # sockets
    listen = "0.0.0.0:80"               # the API

    [interlink]                         # left out: a single controller, never paired
    interface = "il0"
    address = "169.254.10.1"
    peer = "169.254.10.2"
    prefix = 24                         # both addresses lie in one network
    port = 6000                         # TCP: the log; UDP: heartbeats

    [first_address]                     # where it can be reached before anything is configured
    interface = "eth0"
    address = "192.0.2.1"
    prefix = 24

    [voters]                            # the shared disks; 3 or 5 paths of one backend
    backend = "shelf"
    paths = ["/run/shelf/0", "/run/shelf/1", "/run/shelf/2"]
    others = ["/run/shelf/3"]           # shared disks that do not vote and only hold pools
    slots = "/dev/slots"                # where the voters' slot areas are

    [power]                             # left out: the other controller's power cannot be cut
    backend = "lab"

    [fence]
    reboot = "init"                     # how this controller ends itself; or "sysrq"

    [pools]                             # left out: no pools
    dialect = "zfs-fuse"
    disks = "/dev/shelf"                # the directory that shows the shared disks

    [storage]
    free_floor_mib = 64                 # below this much free space in data_dir no write is taken

    [timing]                            # all have defaults; see Timing
    settle_s = 20.0
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from middlewared.boot_rules import Fault, faults_in, parse_listen, shown
from middlewared.kernel.errors import BadBootFile
from middlewared.kernel.facts import Node, other
from middlewared.protocol.params import problems

DEFAULT_PATH = Path("/etc/middlewared.toml")


class Interlink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The private cable between the controllers."""

    interface: str
    address: str
    peer: str
    prefix: int = 24
    port: int = 6000
    """TCP and UDP; the one after it is the pairing's."""


class FirstAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where this controller can be reached before anything is configured."""

    interface: str
    address: str
    prefix: int = 24


class Voters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shared disks. paths: those that grant terms. others: those that are reserved with the term all the same.

    slots: where each voter's slot area is, a directory with a device for each by the last part of its path; "register":
    the backend keeps record and heartbeat itself.
    """

    backend: Literal["shelf"]
    paths: tuple[str, ...]
    others: tuple[str, ...] = ()
    slots: str = "register"


class Power(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way to the other controller's power. path: the lab's cable."""

    backend: Literal["lab"]
    path: str = "/run/bmc/power"


class Fence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this controller ends itself when it must not run on: by its init (systemd does it), or by the kernel."""

    reboot: Literal["init", "sysrq"] = "init"


class Pools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which ZFS, and the directory that shows the shared disks, as /dev/disk/by-id does."""

    dialect: Literal["zfs-fuse"]
    disks: str


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The disk of the data directory."""

    free_floor_mib: int = 64


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Intervals and windows. Their relations (boot_rules.py) are what keeps two owners apart."""

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
    first_address: FirstAddress | None = None
    voters: Voters | None = None
    power: Power | None = None
    fence: Fence = Fence()
    pools: Pools | None = None
    storage: Storage = Storage()
    timing: Timing = Timing()

    @property
    def peer(self) -> Node:
        return other(self.node)

    @property
    def listen_address(self) -> tuple[str, int]:
        listens = parse_listen(self.listen)
        if listens is None:
            raise BadBootFile(f"listen: {self.listen!r} is not ADDRESS:PORT")
        return listens

    @property
    def fenced_socket(self) -> str:
        return f"{self.run_dir}/fenced.sock"

    @property
    def api_socket(self) -> str:
        return f"{self.run_dir}/middlewared.sock"

    def validate(self) -> None:
        """Raise BadBootFile with every fault, unless the fields fit each other."""
        if faults := faults_in(flat(msgspec.to_builtins(self))):
            raise BadBootFile(*map(str, faults))


def load(path: Path) -> BootFile:
    """Read and check the boot file. Raises BadBootFile with every fault, each a line that begins with the file."""
    read = parse(path)
    if faults := check(read):
        raise BadBootFile(*(f"{path}: {fault}" for fault in faults))
    return msgspec.convert(read, BootFile, strict=True)


def parse(path: Path) -> dict[str, object]:
    """The file as TOML has it. Raises BadBootFile where it cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text())
    except OSError as e:
        raise BadBootFile(f"{path}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise BadBootFile(f"{path}: {e}") from None


def check(read: Mapping[str, object]) -> list[Fault]:
    """Every fault of a parsed file: of each field alone first, then of what the fields are to each other."""
    values = flat(read)
    alone = ((place.removeprefix("."), sentence) for place, sentence, _ in problems(read, BootFile, ""))
    faults = [Fault(field=f, value=shown(values[f]) if f in values else "", relation=said) for f, said in alone]
    told = {fault.field for fault in faults}
    return faults + [fault for fault in faults_in(values) if fault.field not in told]


def flat(read: Mapping[str, object]) -> dict[str, object]:
    """Every field by its full name, as it stands in the file or by default; True for each section that is there."""
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(BootFile):
        value = read.get(field.name, field.default)
        section = section_of(field.type)
        if section is None:
            values[field.name] = value
        elif value is not None:
            given = value if isinstance(value, Mapping) else {}
            values[field.name] = True if isinstance(value, Mapping | section) else value
            values.update(
                {f"{field.name}.{p.name}": given.get(p.name, p.default) for p in msgspec.structs.fields(section)}
            )
    return {name: value for name, value in values.items() if value is not msgspec.NODEFAULT and value is not None}


def section_of(type_: Any) -> type[msgspec.Struct] | None:
    """The section that a field of this type is; None for a single value."""
    candidates = (t for t in (type_, *get_args(type_)) if isinstance(t, type) and issubclass(t, msgspec.Struct))
    return next(candidates, None)
