"""Where everything of one lab lies, and the addresses in it.

DIR/lab.sock                 the bench listens here
DIR/lab.lock                 held while the bench lives
DIR/lab.json                 the administrator's password; whether the pair was set up
DIR/bench.log
DIR/{A,B}/                   the controller's data_dir: log.db, state.db, middlewared.toml, log/
DIR/{A,B}/run/               its /run/middleware: middlewared.sock, fenced.sock
DIR/shelf/                   the shared disks, and the ends of their cables: DIR/shelf/{A,B}/{0..5}
DIR/bmc/                     the cables to each other's power: DIR/bmc/{A,B}/power
DIR/client/
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node, other
from middlewared.lab import loops

SOCKET_NAME_BYTES = 107
"""What a unix socket's name may have: sizeof(sun_path) - 1, unix(7)."""

HIDDEN = ("/run", "/etc", "/proc", "/sys", "/dev", "/mnt")
"""A controller has its own of these, so a lab below them could not be seen inside."""

DISKS = 3
"""The disks that are voters; they can hold pools as well."""
DATA_DISKS = 3
"""Disks beside them that only hold pools, numbered after the voters. They are reserved with the term all the same."""
PREFIX = 24
CLIENT_LAN = "192.0.2.100"
CLIENT_LAN_2 = "198.51.100.100"
"""On the second LAN only the client has an address; the controllers have what is configured."""
VIP = "192.0.2.10"
VHID = 1
LAN: dict[Node, str] = {"A": "192.0.2.1", "B": "192.0.2.2"}
INTERLINK: dict[Node, str] = {"A": "169.254.10.1", "B": "169.254.10.2"}


def serial_of(disk: int) -> str:
    """The serial number of a shared disk, the same by both of its ports."""
    return f"SHELF-{disk}"


_POOLS = """
[pools]
dialect = "zfs-fuse"
disks = "/dev/shelf"
"""


def default_dir() -> Path:
    """Short, since sockets lie below it, and the user's own."""
    return Path(f"/tmp/mwlab-{os.getuid()}")  # noqa: S108 - `Layout.prepare` refuses another user's directory


class Layout:
    """The paths of one lab. Raises PortFailed when `directory` cannot hold one."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory.resolve()
        longest = max((self.api_socket("A"), self.shelf_control, self.shelf_cables("A") / "0"), key=_bytes)
        room = SOCKET_NAME_BYTES - (_bytes(longest) - _bytes(self.dir))
        if _bytes(self.dir) > room:
            raise PortFailed(
                "lab directory",
                f"{self.dir} has {_bytes(self.dir)} bytes, at most {room} leave room for a socket's name"
                f" (limit {SOCKET_NAME_BYTES})",
            )
        for hidden in HIDDEN:
            if self.dir.is_relative_to(hidden):
                raise PortFailed(
                    "lab directory", f"{self.dir} lies below {hidden}, which each controller has its own of"
                )

    @property
    def socket(self) -> Path:
        return self.dir / "lab.sock"

    @property
    def lock(self) -> Path:
        return self.dir / "lab.lock"

    @property
    def memory(self) -> Path:
        return self.dir / "lab.json"

    @property
    def log(self) -> Path:
        return self.dir / "bench.log"

    @property
    def shelf(self) -> Path:
        return self.dir / "shelf"

    @property
    def shelf_control(self) -> Path:
        return self.shelf / "control.sock"

    def shelf_cables(self, node: Node) -> Path:
        return self.shelf / node

    def disk_images(self) -> list[Path]:
        """One file for each disk, by its number."""
        return [self.shelf / f"disk{disk}.img" for disk in range(DISKS + DATA_DISKS)]

    def bmc(self, node: Node) -> Path:
        return self.dir / "bmc" / node

    def machine(self, name: str) -> Path:
        return self.dir / name

    def run(self, name: str) -> Path:
        return self.dir / name / "run"

    def logs(self, name: str) -> Path:
        return self.dir / name / "log"

    def api_socket(self, node: Node) -> Path:
        return self.run(node) / "middlewared.sock"

    def boot_file(self, node: Node) -> Path:
        return self.dir / node / "middlewared.toml"

    def prepare(self, with_zfs: Collection[Node] = (), *, plain: bool = False) -> None:
        """Make the directories and the boot files. Raises PortFailed for a directory that is not ours to write.

        with_zfs: the controllers that have a ZFS, and a build that knows of it. plain: the files say nothing of the
        disks that the first build did not read.
        """
        try:
            self.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.dir.stat().st_uid != os.getuid():
                raise PortFailed("lab directory", f"{self.dir} belongs to another user")
            self.dir.chmod(0o700)
            for path in (*map(self.shelf_cables, LAN), *map(self.bmc, LAN), *map(self._own, ("A", "B", "client"))):
                path.mkdir(parents=True, exist_ok=True)
            for node in LAN:
                slots = loops.possible() and not plain
                text = boot_file(node, self.machine(node), zfs=node in with_zfs, plain=plain, slots=slots)
                self.boot_file(node).write_text(text)
        except OSError as e:
            raise PortFailed("lab directory", f"{e.filename}: {e.strerror}") from None

    def forget(self) -> None:
        """Remove the databases, the disks and the password, so that the next lab here is a new pair."""
        for name in ("A", "B", "bmc", "client", "shelf"):
            shutil.rmtree(self.dir / name, ignore_errors=True)
        self.memory.unlink(missing_ok=True)

    def _own(self, name: str) -> Path:
        self.run(name).mkdir(parents=True, exist_ok=True)
        return self.logs(name)


def boot_file(node: Node, data_dir: Path, *, zfs: bool, plain: bool, slots: bool) -> str:
    """The boot file of a controller of the lab, see middlewared.config. slots: the disks have a part for them."""
    cables = [f'"/run/shelf/{disk}"' for disk in range(DISKS + DATA_DISKS)]
    return (
        f'node = "{node}"\n'
        f'data_dir = "{data_dir}"\n'
        'run_dir = "/run/middleware"\n'
        'listen = "0.0.0.0:80"\n'
        "\n[interlink]\n"
        'interface = "il0"\n'
        f'address = "{INTERLINK[node]}"\n'
        f'peer = "{INTERLINK[other(node)]}"\n'
        "\n[voters]\n"
        'backend = "shelf"\n'
        f"paths = [{', '.join(cables[:DISKS])}]\n"
        + ("" if plain else f"others = [{', '.join(cables[DISKS:])}]\n")
        + ('slots = "/dev/slots"\n' if slots else "")
        + "\n[timing]\n"
        "settle_s = 2.0\n" + (_POOLS if zfs else "")
    )


def _bytes(path: Path) -> int:
    return len(os.fsencode(path))
