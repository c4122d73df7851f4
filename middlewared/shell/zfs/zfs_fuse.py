"""ports.PoolStore by the commands of zfs-fuse, the ZFS of the lab.

Its traps, and what is done about each:

- The kernel keeps pages of a block device for as long as somebody has it open. What this controller read of a disk
  before the other one wrote it is shown again, and an exported pool still seems to be in use: the pages are dropped.
- It has no `import -N`: an import mounts everything, and says nothing where that failed. So every import looks whether
  the pool's own dataset is mounted, and where it is not, gives the pool back.
- Where a dataset is mounted stands in the pool, and a pool of somebody else's may say /etc. So each pool has MOUNTS as
  its root (-R), below which it says what it likes.
- An export that fails halfway may have unmounted something, and one that hangs is not over when its command is killed.
  So an export is proven: the pool is not there any more, and nothing of it is mounted.
- What it says of its pools is not believed alone: a pool that it does not list while a dataset of it stays mounted
  below MOUNTS is neither here nor gone, and nobody may take it for one that the other controller can have.
- It lets go of a file system a moment after it is unmounted, and says "busy" until then: what is refused with that word
  is asked for again for BUSY_S.
- A pool that has stopped (its disks refuse) answers `status`, and hangs in all that writes: every command has an end.

Not handled: volumes, which have no device nodes here; datasets with a legacy mountpoint are not mounted by anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.pools import MOUNTS, Dataset, Found, Health, Imported, Layout, Scan
from middlewared.shell.zfs import mounts, pages
from middlewared.shell.zfs import zfs_fuse_text as text
from middlewared.shell.zfs.commands import Commands, Failed

ASK_S = 10.0
CHANGE_S = 60.0
BUSY_S = 1.0
_AGAIN_S = 0.05
_AS_OURS = ("-o", "cachefile=none", "-R", MOUNTS)
LOOK_S = 0.5


class ZfsFuse:
    """search: the directory with the disks. commands, process: where ZFS is, if not in this process's namespaces."""

    def __init__(self, search: Path, commands: Commands | None = None, process: Path = Path("/proc/self")) -> None:
        self._search = str(search)
        self._devices = process / "root" / search.relative_to("/")
        self._run = (commands or Commands()).run
        self._mountinfo = process / "mountinfo"

    async def imported(self) -> tuple[Imported, ...]:
        before = self._ours()
        pools = await self._list()
        if unknown := (before & self._ours()) - pools.keys():
            raise PortFailed("list the pools", f"{min(unknown)} is mounted, and ZFS does not list it")
        return tuple(pool for pool, _ in pools.values())

    async def found(self) -> tuple[Found, ...]:
        purpose = "look for pools"
        await self._drop_pages(purpose)
        try:
            said = await self._run(purpose, "zpool", "import", "-d", self._search, timeout_s=ASK_S)
        except Failed as e:
            # Where all that lie there are imported here it says no, and not a word.
            if e.output.strip() and "no pools available" not in e.output:
                raise
            said = ""
        return tuple([await self._with_user(pool) for pool in text.found(said)])

    async def import_pool(self, guid: str, *, force: bool = False) -> None:
        purpose = f"import pool {guid}"
        await self._drop_pages(purpose)
        argv = ["zpool", "import", *(["-f"] if force else []), *_AS_OURS, "-d", self._search, guid]
        await self._run(purpose, *argv, timeout_s=CHANGE_S)
        name = next((pool.name for pool in await self.imported() if pool.guid == guid), None)
        if name is None:
            raise PortFailed(purpose, "it was imported, and is not there")
        if self._mounts().get(name) is None:
            with contextlib.suppress(PortFailed):
                await self.export_pool(name)
            raise PortFailed(purpose, f"the dataset of {name} cannot be mounted")

    async def export_pool(self, name: str, *, force: bool = False) -> None:
        purpose = f"export pool {name}"
        await self._change(purpose, "zpool", "export", *(["-f"] if force else []), name)
        if name in await self._list():
            raise PortFailed(purpose, "it is still imported")
        if left := [id_ for id_ in self._mounts() if id_.partition("/")[0] == name]:
            raise PortFailed(purpose, f"{left[0]} is still mounted")

    async def create(self, name: str, layout: Layout, *, force: bool = False) -> str:
        purpose = f"create pool {name}"
        argv = ["zpool", "create", *(["-f"] if force else []), *_AS_OURS, "-m", f"/{name}", name]
        await self._run(purpose, *argv, *_words(layout), timeout_s=CHANGE_S)
        return (await self._pool(name))[0].guid

    async def destroy(self, name: str) -> None:
        purpose = f"destroy pool {name}"
        await self._change(purpose, "zpool", "destroy", name)
        if name in await self._list():
            raise PortFailed(purpose, "it is still there")

    async def health(self, name: str) -> Health:
        pool, sizes = await self._pool(name)
        said = await self._run(f"ask how {name} is", "zpool", "status", name, timeout_s=ASK_S)
        return text.health(said, pool, sizes, mounted=name in self._mounts())

    async def scrub(self, name: str, *, stop: bool = False) -> None:
        purpose = f"{'stop' if stop else 'start'} the scrub of {name}"
        await self._run(purpose, "zpool", "scrub", *(["-s"] if stop else []), name, timeout_s=CHANGE_S)

    async def scan_over(self, name: str, told: Callable[[Scan], None]) -> Scan:
        while (scan := (await self.health(name)).scan).state == "SCANNING":
            told(scan)
            await asyncio.sleep(LOOK_S)
        return scan

    async def datasets(self, pool: str) -> tuple[Dataset, ...]:
        argv = ("zfs", "get", "-r", "-Hp", "-o", "name,property,value,source", "all", pool)
        said = await self._run(f"list the datasets of {pool}", *argv, timeout_s=ASK_S)
        return tuple(text.datasets(said, self._mounts()))

    async def create_dataset(self, id: str, properties: Mapping[str, str]) -> None:  # noqa: A002
        options = [word for name, value in properties.items() for word in ("-o", f"{name}={value}")]
        await self._run(f"create dataset {id}", "zfs", "create", *options, id, timeout_s=CHANGE_S)

    async def set_dataset(self, id: str, properties: Mapping[str, str | None]) -> None:  # noqa: A002
        for name, value in properties.items():
            purpose = f"change {name} of dataset {id}"
            words = ("inherit", name) if value is None else ("set", f"{name}={value}")
            try:
                await self._run(purpose, "zfs", *words, id, timeout_s=CHANGE_S)
            except Failed as e:
                # The property is set; only what had to be unmounted for that did not come back at once.
                if not any(said in e.output for said in ("unable to remount", "dataset is busy")):
                    raise
                await self._change(purpose, "zfs", "mount", "-a")

    async def destroy_dataset(self, id: str, *, recursive: bool = False) -> None:  # noqa: A002
        options = ["-r"] if recursive else []
        await self._change(f"delete dataset {id}", "zfs", "destroy", *options, id)

    async def _change(self, purpose: str, *argv: str) -> None:
        """Run what needs a file system that nobody uses."""
        for _ in range(int(BUSY_S / _AGAIN_S)):
            try:
                await self._run(purpose, *argv, timeout_s=CHANGE_S)
            except Failed as e:
                if "busy" not in e.output:
                    raise
                await asyncio.sleep(_AGAIN_S)
            else:
                return
        await self._run(purpose, *argv, timeout_s=CHANGE_S)

    async def _list(self) -> dict[str, tuple[Imported, tuple[int, int, int]]]:
        said = await self._run("list the pools", "zpool", "list", "-H", "-o", text.LIST, timeout_s=ASK_S)
        return text.pool_list(said)

    async def _pool(self, name: str) -> tuple[Imported, tuple[int, int, int]]:
        pool = (await self._list()).get(name)
        if pool is None:
            raise PortFailed(f"ask for pool {name}", "it is not imported here")
        return pool

    async def _with_user(self, pool: Found) -> Found:
        if not pool.foreign or not pool.devices:
            return pool
        try:
            label = await self._run(f"read a label of {pool.name}", "zdb", "-l", pool.devices[0], timeout_s=ASK_S)
        except PortFailed:
            return pool
        return msgspec.structs.replace(pool, last_used_by=text.last_host(label))

    async def _drop_pages(self, purpose: str) -> None:
        """A disk that does not answer may keep its thread; nobody waits longer for it than for a command."""
        try:
            async with asyncio.timeout(ASK_S):
                await asyncio.to_thread(pages.drop, self._devices)
        except TimeoutError:
            raise PortFailed(purpose, f"a disk in {self._search} does not answer") from None

    def _ours(self) -> set[str]:
        """The pools of which something is mounted below MOUNTS."""
        return {id_.partition("/")[0] for id_, where in self._mounts().items() if where.startswith(f"{MOUNTS}/")}

    def _mounts(self) -> dict[str, str]:
        try:
            return mounts.mounted(self._mountinfo.read_text())
        except OSError as e:
            raise PortFailed("look what is mounted", f"{self._mountinfo}: {e.strerror}") from None


def _words(layout: Layout) -> Sequence[str]:
    """The layout as `zpool create` takes it."""
    words: list[str] = []
    for heading, vdevs in (([], layout.data), (["log"], layout.log)):
        words += heading if vdevs else []
        for vdev in vdevs:
            words += [*([] if vdev.type == "STRIPE" else [vdev.type.lower()]), *vdev.devices]
    for heading, devices in ((["cache"], layout.cache), (["spare"], layout.spares)):
        words += [*heading, *devices] if devices else []
    return words
