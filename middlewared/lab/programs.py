"""Which programs the lab runs: ours, or stand-ins that a file names (for trying the lab itself)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab import init, loops
from middlewared.lab.layout import CLIENT_LAN, CLIENT_LAN_2, DATA_DISKS, DISKS, INTERLINK, LAN, PREFIX, VIP, Layout
from middlewared.lab.supervision import Service

ZFS = "zfs"
WATCHDOG_S = 5.0
FENCED_MAY_BE_GONE_S = 1.0
WITHIN_LEASE_S = 0.5
"""With the start this is less than what is left of a VIP's lease, and than fenced may be gone: to shoot them is not
enough to move anything."""


class Programs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """controller: its daemons. shelf: its command line, () for none. set_up: whether a fresh pair is paired by `up`.

    `{node}`, `{dir}` and `{build}` in command lines and log names stand for the controller, its directory, and the
    virtual environment whose programs it runs: builds[node], else this one.
    """

    controller: tuple[Service, ...]
    shelf: tuple[str, ...] = ()
    set_up: bool = False
    builds: dict[Node, str] = {}


def ours(layout: Layout, builds: dict[Node, str]) -> Programs:
    """builds: the virtual environments of controllers that run another build than this one."""
    boot = ("--config", "{dir}/middlewared.toml")
    fenced = Service(
        name="fenced",
        argv=("{build}/bin/middlewared-fenced", *boot),
        log="{dir}/log/fenced.log",
        vital_s=FENCED_MAY_BE_GONE_S,
        longest_wait_s=WITHIN_LEASE_S,
    )
    carpd = Service(
        name="carpd",
        argv=("{build}/bin/middlewared-carpd", *boot),
        log="{dir}/log/carpd.log",
        longest_wait_s=WITHIN_LEASE_S,
    )
    daemon = Service(
        name="middlewared",
        argv=("{build}/bin/middlewared", "serve", *boot),
        log="{dir}/log/middlewared.log",
        watchdog_s=WATCHDOG_S,
    )
    controller = (fenced, carpd, daemon)
    cables = [f"--node={node}={layout.shelf_cables(node)}" for node in LAN]
    shelf = (sys.executable, "-m", "middlewared.lab.shelf", str(layout.shelf), f"--disks={DISKS + DATA_DISKS}", *cables)
    return Programs(
        controller=(zfs(), *controller) if pools_possible() else controller,
        shelf=(*shelf, f"--control={layout.shelf_control}"),
        set_up=True,
        builds=builds,
    )


def zfs() -> Service:
    """ZFS, where a kernel would have it: it is there before all else, and its end is the controller's, like a panic.

    It reads and writes the disks past the page cache: a block device of the host would keep pages of a controller that
    is dead or fenced, and write them later; and would show the standby what it read before the owner wrote.
    """
    # A pid file that is left makes it end without a word; its lock lies in /var/lock, a link to what /run lacks.
    start = "rm -f /run/zfs-fuse.pid; mkdir -p /run/lock/zfs; exec zfs-fuse --no-daemon --no-kstat-mount"
    return Service(
        name=ZFS,
        argv=("sh", "-c", f"{start} --disable-block-cache --pidfile /run/zfs-fuse.pid"),
        log="{dir}/log/zfs.log",
        vital_s=0.0,
    )


def with_zfs(programs: Programs) -> list[Node]:
    """The controllers that have a ZFS of which their build is told; one of another build may not know the word."""
    if not any(service.name == ZFS for service in programs.controller):
        return []
    return [node for node in LAN if node not in programs.builds]


def pools_possible() -> bool:
    """Whether controllers of this lab can have pools: as root, with zfs-fuse. OpenZFS in the kernel is the host's."""
    return os.geteuid() == 0 and loops.possible() and shutil.which("zfs-fuse", path=init.service_path()) is not None


def read(file: Path) -> Programs:
    """Stand-ins from a JSON file. Raises PortFailed with the reason it cannot be used."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Programs)
    except (OSError, msgspec.DecodeError) as e:
        raise PortFailed("stand-in programs", f"{file}: {e}") from None


def services_for(programs: Programs, layout: Layout, node: Node) -> list[Service]:
    """The controller's services with the placeholders filled in."""
    build = programs.builds.get(node, str(Path(sys.executable).parent.parent))

    def fill(text: str) -> str:
        return text.replace("{node}", node).replace("{dir}", str(layout.machine(node))).replace("{build}", build)

    return [
        msgspec.structs.replace(service, argv=tuple(map(fill, service.argv)), log=fill(service.log))
        for service in programs.controller
    ]


def relay_service(layout: Layout, listeners: dict[str, int]) -> Service:
    """The client's relay. listeners: for A, B and vip the number of the file that listens on the host."""
    routes = [f"{listeners[name]}={address}:80" for name, address in (*LAN.items(), ("vip", VIP))]
    return Service(
        name="relay",
        argv=(sys.executable, "-m", "middlewared.lab.relay", *routes),
        log=str(layout.logs("client") / "relay.log"),
        fds=tuple(listeners.values()),
    )


def network_of_controller(node: Node) -> list[str]:
    return [
        "link set lo up",
        f"addr add {LAN[node]}/{PREFIX} dev eth0",
        "link set eth0 up",
        "link set eth1 up",
        f"addr add {INTERLINK[node]}/{PREFIX} dev il0",
        "link set il0 up",
    ]


def network_of_client() -> list[str]:
    return [
        "link set lo up",
        f"addr add {CLIENT_LAN}/{PREFIX} dev eth0",
        "link set eth0 up",
        f"addr add {CLIENT_LAN_2}/{PREFIX} dev eth1",
        "link set eth1 up",
    ]
