"""The units of systemd: what each is for stands in the files under systemd/, why it is as it is in docs/units.md.

`files` is pure: what is to lie where. `install` makes it so below a root directory and may be repeated.

Pools that both controllers reach are imported by whoever owns the disks, never by anything else at boot: the units of
ZFS that import whatever they find are masked.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.shell import durable_file

TARGET = "middlewared.target"
SERVICES = (
    "middlewared-addresses.service",
    "middlewared-fenced.service",
    "middlewared-fenced-watch.service",
    "middlewared-carpd.service",
    "middlewared.service",
    "middlewared-handover.service",
)
MASKED = ("zfs-import-cache.service", "zfs-import-scan.service", "zfs-import.target")
"""Each would import pools at boot: from the cache file, from all disks, or by whatever else waits for the target."""

_UNITS = Path("etc/systemd/system")
_NOWHERE = Path("/dev/null")


class Installed(msgspec.Struct, frozen=True):
    """What is to be there. files: path -> content. links: path -> target. Paths are relative to the root directory."""

    files: dict[Path, str]
    links: dict[Path, Path]


def files(binaries: Path, data_dir: str) -> Installed:
    """binaries: where the commands of this installation lie."""

    def filled(name: str) -> str:
        text = resources.files("middlewared.setup").joinpath("systemd", name).read_text()
        return text.replace("{bin}", str(binaries)).replace("{data}", data_dir)

    units = {_UNITS / name: filled(name) for name in (TARGET, *SERVICES)}
    wants = {_UNITS / f"{TARGET}.wants" / name: Path("..") / name for name in SERVICES}
    return Installed(
        files={**units, Path("etc/systemd/system.conf.d/50-middlewared.conf"): filled("system.conf")},
        links={
            **wants,
            _UNITS / "multi-user.target.wants" / TARGET: Path("..") / TARGET,
            **{_UNITS / name: _NOWHERE for name in MASKED},
        },
    )


def differing(wanted: Installed, root: Path = Path("/")) -> list[Path]:
    """What of it is not there, or is otherwise."""
    files = [path for path, text in wanted.files.items() if _content(root / path) != text]
    return files + [path for path, target in wanted.links.items() if _target(root / path) != target]


def install(wanted: Installed, root: Path = Path("/")) -> list[Path]:
    """Put everything in its place; returns what was changed. Raises PortFailed.

    A file that somebody wrote in the place of a masked unit is not touched: it is that person's decision, and an error.
    """
    refuse_obstacles(wanted, root)
    changed = differing(wanted, root)
    for path in changed:
        try:
            _put(wanted, path, root / path)
        except OSError as e:
            raise PortFailed("install the units", f"{root / path}: {e.strerror}") from None
    return changed


def refuse_obstacles(wanted: Installed, root: Path = Path("/")) -> None:
    """Raise PortFailed where something stands in the place of a link that `install` would make."""
    for path, target in wanted.links.items():
        place = root / path
        if place.exists() and not place.is_symlink():
            raise PortFailed("install the units", f"{place} is in the way of a link to {target}")


def _put(wanted: Installed, path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if path in wanted.files:
        durable_file.replace(place, wanted.files[path].encode(), mode=0o644)
        return
    place.unlink(missing_ok=True)
    place.symlink_to(wanted.links[path])


def _content(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _target(path: Path) -> Path | None:
    return path.readlink() if path.is_symlink() else None
