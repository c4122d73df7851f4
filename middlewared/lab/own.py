"""What a machine of the lab has of its own: /proc, /sys, /run, /etc, /dev, /mnt and what ZFS keeps.

Changes to /etc live in memory, as long as the machine does. /dev has no disk of the host in it, so a search for pools
finds the shelf's disks and nothing else. /mnt, where pools are mounted, is small: a writer that was to write into a
pool which is not mounted is stopped there, and fills no memory of the host.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.lab import namespaces

_OVERLAY = Path("/run/.etc")
_DEV = Path("/run/.dev")
_ZFS_STATE = Path("/var/lib/zfs")
_REWRITTEN = ("hostname", "hosts", "resolv.conf")
"""Files of /etc that the product writes. In a user namespace a file of the host's root could not be opened for that."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")
_HOST_IDS = {"A": 0x0A0A0001, "B": 0x0B0B0002}
"""Below 2^31: zfs-fuse shows others as negative numbers."""


class Bind(msgspec.Struct, frozen=True):
    """One path of the host that the machine sees elsewhere."""

    source: str
    target: str


def mount_own(machine: str, binds: Sequence[Bind]) -> None:
    """Mount it all, then the binds. Raises PortFailed."""
    namespaces.make_mounts_private()
    namespaces.mount("proc", "/proc", "proc")
    try:
        # The old one would show the host's links.
        namespaces.mount("sysfs", "/sys", "sysfs")
    except PortFailed as e:
        print(f"{machine}: {e}; /sys shows the host's links", file=sys.stderr, flush=True)
    rewritten = {name: file.read_bytes() for name in _REWRITTEN if (file := Path("/etc", name)).exists()}
    if machine in _HOST_IDS:
        rewritten["hostid"] = struct.pack("<I", _HOST_IDS[machine])
    namespaces.mount("tmpfs", "/run", "tmpfs", options="mode=755")
    _mount_etc(rewritten)
    devices = [bind for bind in binds if Path(bind.target).is_relative_to("/dev")]
    _mount_dev(devices)
    namespaces.mount("tmpfs", "/mnt", "tmpfs", options="mode=755,size=64k")
    if _ZFS_STATE.exists():
        # The list of pools that ZFS would import by itself.
        namespaces.mount("tmpfs", str(_ZFS_STATE), "tmpfs", options="mode=755")
    for bind in binds:
        if bind not in devices:
            _bind(Path(bind.source), Path(bind.target))


def _mount_etc(files: dict[str, bytes]) -> None:
    for directory in ("upper", "work"):
        (_OVERLAY / directory).mkdir(parents=True)
    for name, content in files.items():
        (_OVERLAY / "upper" / name).write_bytes(content)
    layers = f"lowerdir=/etc,upperdir={_OVERLAY}/upper,workdir={_OVERLAY}/work"
    namespaces.mount("overlay", "/etc", "overlay", options=layers)


def _mount_dev(binds: Sequence[Bind]) -> None:
    """Built aside, since it is made of what it is to hide."""
    _DEV.mkdir()
    namespaces.mount("tmpfs", str(_DEV), "tmpfs", options="mode=755,size=64k")
    for name in _DEVICES:
        if (device := Path("/dev", name)).exists():
            _bind(device, _DEV / name)
    for bind in binds:
        _bind(Path(bind.source), _DEV / Path(bind.target).relative_to("/dev"))
    for link, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (_DEV / link).symlink_to(f"/proc/self/fd{target}")
    (_DEV / "pts").mkdir()
    namespaces.mount("devpts", str(_DEV / "pts"), "devpts", options="ptmxmode=666")
    (_DEV / "ptmx").symlink_to("pts/ptmx")
    (_DEV / "shm").mkdir()
    namespaces.mount("tmpfs", str(_DEV / "shm"), "tmpfs", options="mode=1777")
    namespaces.mount(str(_DEV), "/dev", flags=namespaces.MS_MOVE)


def _bind(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    namespaces.mount(str(source), str(target), flags=namespaces.MS_BIND)
