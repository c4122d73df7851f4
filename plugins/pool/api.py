"""The methods of `pool`.

Those that change a pool run on the active controller, as jobs. First comes what ZFS does, then the event: a crash
between the two leaves a pool that can be imported, or one that is here and can be taken up (stray.py), or one that is
imported again, and never one that is configured and was not made. What fails once a pool was brought here has it
exported again. A call that comes again under its request id does nothing in ZFS a second time.

What pools there are is changed by one job at a time.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncIterator, Sequence

import msgspec

from middlewared.kernel.errors import CallFailed, MiddlewareError, OutcomeUnknown, PortFailed, Refused
from middlewared.kernel.pools import MOUNTS, Found, Health, Imported, Layout, Scan
from middlewared.plugin import Call, JobCall, job, query
from middlewared.plugin.filters import Filters, Options, pick
from middlewared.ports import OwnedPools, PoolStore

from . import disk, entry, pool
from .request import CreateRequest, Shelf, laid_out
from .stray import is_made_so, strays


def _one_at_a_time(*_: object, **__: object) -> str:
    return "pool"


class FoundEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that is none of this pair's. hostname: who had it last, where nobody exported it.

    imported: it is here already, and was left out of the configuration.
    """

    name: str
    guid: str
    status: str
    hostname: str | None
    exported: bool
    imported: bool


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """force: also a pool that another system did not export, and may go on to write if it can reach the disks.

    name: its own, which it keeps. enable_attachments: taken, and means nothing: no shares wait for their pool here.
    """

    guid: str
    name: str | None = None
    force: bool = False
    enable_attachments: bool = False


class ExportOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destroy: the pool and all that is in it. force: also from under those who have files open.

    cascade, restart_services: taken, and mean nothing: no shares and no services hang on a pool here.
    """

    destroy: bool = False
    force: bool = False
    cascade: bool = False
    restart_services: bool = False


@query("pool.query", roles=("POOL_READ",))
async def query_pools(call: Call, filters: Filters = [], options: Options = Options()) -> object:  # noqa: B006, B008
    """The pools of the pair. How they are only the controller tells that has them imported, the active one."""
    return pick([msgspec.to_builtins(one) for one in await _entries(call)], filters, options)


@query("pool.get_instance", roles=("POOL_READ",))
async def get_instance(call: Call, id: int, options: Options = Options()) -> entry.Entry:  # noqa: A002, B008
    """One pool. options: those of a query; of a single pool they change nothing."""
    return await _entry(call, _configured(call, id))


@job("pool.create", kind="write", roles=("POOL_WRITE",), takes="pool_create", abortable=False, turn=_one_at_a_time)
async def create(call: JobCall, pool_create: CreateRequest) -> entry.Entry:
    """Make a pool of disks that both controllers see, mounted at /mnt/NAME.

    One of that name and of those parts that is here and not configured, as an earlier call may have left it, is taken
    up.
    """
    guid, serials = "", tuple[str, ...]()
    if not call.again:
        store = store_of(call)
        call.progress(5, "Looking at the disks")
        layout, serials = laid_out(pool_create, await _shelf(call, pool_create.name), call.state(pool.NOUN))
        stray = next((one for one in await strays(call) if one.name == pool_create.name), None)
        if stray is None:
            call.progress(20, "Making the pool")
            guid = await store.create(pool_create.name, layout, force=pool_create.force)
        else:
            call.progress(20, "Taking up the pool that was made before")
            guid = _remade(stray, layout)
            await _settle(call, stray.name, guid)
    call.progress(80, "Telling the other controller")
    await _add(call, pool.Add(name=pool_create.name, guid=guid, disks=serials))
    return await _entry(call, _named(call, pool_create.name))


@job("pool.import_find", roles=("POOL_READ",))
async def import_find(call: JobCall) -> list[FoundEntry]:
    """The pools that could be imported and are none of this pair's: on the shared disks, or left here by an import."""
    known = {one.guid for one in call.state(pool.NOUN).pools}
    found = [one for one in await store_of(call).found() if one.guid not in known]
    return [*map(_left_here, await strays(call)), *map(_on_the_disks, found)]


@job("pool.import_pool", kind="write", roles=("POOL_WRITE",), takes="pool_import", abortable=False, turn=_one_at_a_time)
async def import_pool(call: JobCall, pool_import: ImportRequest) -> entry.Entry:
    """Import a pool that lies on the shared disks, or take up one that is here, and have it from now on."""
    name, serials = "", tuple[str, ...]()
    if not call.again:
        store = store_of(call)
        call.progress(5, "Looking for the pool")
        stray = next((one for one in await strays(call) if one.guid == pool_import.guid), None)
        if stray is not None:
            name = stray.name
            _check_name(call, name, pool_import)
        else:
            found = _importable(call, await store.found(), pool_import)
            name = found.name
            call.progress(20, f"Importing {name}")
            await store.import_pool(found.guid, force=found.foreign)
        call.progress(60, "Looking where it is mounted")
        serials = await _settle(call, name, pool_import.guid)
    call.progress(80, "Telling the other controller")
    await _add(call, pool.Add(name=name, guid=pool_import.guid, disks=serials))
    return await _entry(call, next(one for one in call.state(pool.NOUN).pools if one.guid == pool_import.guid))


@job("pool.export", kind="write", roles=("POOL_WRITE",), takes="options", abortable=False, turn=_one_at_a_time)
async def export(call: JobCall, id: int, options: ExportOptions = ExportOptions()) -> None:  # noqa: A002, B008
    """Have a pool no longer: it is exported, and can be imported again, unless it is destroyed.

    One that the log does not take out is imported again by this controller, while it is active. The last pool is kept
    while failover is enabled.
    """
    one = _configured(call, id)
    if not call.again:
        await _check_not_last(call, one)
        store = store_of(call)
        imported = any(here.guid == one.guid for here in await store.imported())
        if options.destroy and not imported:
            raise CallFailed(errno.EINVAL, f"{one.name} is not imported, so it cannot be destroyed")
        if imported:
            call.progress(10, f"{'Destroying' if options.destroy else 'Exporting'} {one.name}")
            if options.destroy:
                await store.destroy(one.name)
            else:
                await store.export_pool(one.name, force=options.force)
    call.progress(80, "Telling the other controller")
    try:
        await call.execute(pool.Remove(guid=one.guid))
    except OutcomeUnknown:
        raise  # It may be taken out yet.
    except MiddlewareError:
        if not call.again and not options.destroy:
            store_of(call).want_again(one.guid)
        raise


def _one_scrub_of_a_pool(id: int, action: str = "START") -> str | None:  # noqa: A002
    return f"pool.scrub {id}" if action == "START" else None


@job("pool.scrub", kind="write", roles=("POOL_WRITE",), turn=_one_scrub_of_a_pool)
async def scrub(call: JobCall, id: int, action: str = "START") -> entry.Entry:  # noqa: A002
    """Read all of a pool and compare it with its checksums. action: START, and wait for the end; or STOP.

    A job that is aborted leaves the scrub running: STOP ends it, and with it the job that waits for it.
    """
    one = _configured(call, id)
    if action == "PAUSE":
        raise Refused(("action", "a scrub cannot be paused here: STOP ends it, and START begins it anew"))
    if action not in ("START", "STOP"):
        raise Refused(("action", f"{action!r} is neither START nor STOP"))
    store = store_of(call)
    await store.scrub(one.name, stop=action == "STOP")
    if action == "START":
        await store.scan_over(one.name, lambda scan: _tell(call, scan))
    return await _entry(call, one)


def _tell(call: JobCall, scan: Scan) -> None:
    call.progress(scan.percent, "Scrubbing" if scan.errors == 0 else f"Scrubbing, {scan.errors} errors")


def store_of(call: Call) -> OwnedPools:
    """Raises CallFailed where this controller has no ZFS."""
    if call.controller.pools is None:
        raise CallFailed(errno.EOPNOTSUPP, "The boot file of this controller names no ZFS ([pools])")
    return call.controller.pools


def _configured(call: Call, id_: int) -> pool.Pool:
    found = next((one for one in call.state(pool.NOUN).pools if one.id == id_), None)
    if found is None:
        raise CallFailed(errno.ENOENT, f"There is no pool {id_}")
    return found


def _named(call: Call, name: str) -> pool.Pool:
    found = call.state(pool.NOUN).named(name)
    if found is None:
        raise CallFailed(errno.ENOENT, f"There is no pool {name} any more")
    return found


async def _entries(call: Call) -> list[entry.Entry]:
    pools = call.state(pool.NOUN).pools
    try:
        here = await _imported(call) if pools else ()
    except PortFailed as e:
        return [entry.unknown(one, str(e)) for one in pools]
    return [await _entry(call, one, here) for one in pools]


async def _imported(call: Call) -> Sequence[Imported]:
    return await call.controller.pools.imported() if call.controller.pools is not None else ()


async def _entry(call: Call, one: pool.Pool, here: Sequence[Imported] | None = None) -> entry.Entry:
    """What is so on this controller. A pool that ZFS does not answer for is told with what ZFS said."""
    status = call.controller.facts().status
    try:
        imported = here if here is not None else await _imported(call)
        if not any(other.guid == one.guid for other in imported):
            return entry.absent(one, status)
        return entry.present(one, await store_of(call).health(one.name))
    except PortFailed as e:
        return entry.unknown(one, str(e))


async def _add(call: Call, command: pool.Add) -> None:
    """Put the pool into the configuration; one that cannot be put there is exported again."""
    async with _else_given_back(call, command.name, command.guid):
        await call.execute(command)


async def _settle(call: Call, name: str, guid: str) -> tuple[str, ...]:
    """See that a pool is mounted where clients look for it. Returns the serial numbers of its disks."""
    async with _else_given_back(call, name, guid):
        store = store_of(call)
        await _mount_by_name(store, name)
        health = await store.health(name)
        if not health.mounted:
            raise CallFailed(errno.EIO, f"{name} is not mounted at {MOUNTS}/{name}")
        return await _serials(call, health)


@contextlib.asynccontextmanager
async def _else_given_back(call: Call, name: str, guid: str) -> AsyncIterator[None]:
    """What fails here has the pool exported again, so that it can be imported afresh."""
    try:
        yield
    except OutcomeUnknown:
        raise  # It may be configured yet.
    except MiddlewareError:
        if not call.again and not any(one.guid == guid for one in call.state(pool.NOUN).pools):
            with contextlib.suppress(MiddlewareError):
                await store_of(call).export_pool(name)
        raise


async def _shelf(call: Call, name: str) -> Shelf:
    """For a pool of that name: the disks of a stray of the same name are free for it."""
    disks = tuple(await call.controller.disks.list())
    theirs, _ = await disk.peers_disks(call)
    used = await disk.uses(call)
    strays_of = {one.serial: used.strays.get(one.path, name) for one in disks}
    return Shelf(
        disks=disks,
        in_use={serial: stray for serial, stray in strays_of.items() if stray != name} | dict(used.ours),
        holding={one.serial: used.others[one.path] for one in disks if one.path in used.others},
        theirs=frozenset(one.serial for one in theirs) if theirs is not None else None,
    )


async def _serials(call: Call, health: Health) -> tuple[str, ...]:
    known = {one.path: one.serial for one in await call.controller.disks.list()}
    return tuple(known[leaf.path] for leaf in health.topology.leaves() if leaf.path in known)


def _importable(call: Call, found: Sequence[Found], request: ImportRequest) -> Found:
    """The pool that is asked for. Raises Refused where it is not to be had."""
    one = next((one for one in found if one.guid == request.guid), None)
    if any(known.guid == request.guid for known in call.state(pool.NOUN).pools):
        raise Refused(("guid", f"pool {request.guid} is there already"))
    if one is None:
        raise Refused(("guid", f"there is no pool {request.guid} on the shared disks", errno.ENOENT))
    _check_name(call, one.name, request)
    if one.foreign and not request.force:
        who = one.last_used_by or "another system"
        raise Refused(("force", f"{who} had pool {one.name} and did not export it; it may still write there"))
    return one


def _check_name(call: Call, name: str, request: ImportRequest) -> None:
    if call.state(pool.NOUN).named(name) is not None:
        raise Refused(("guid", f"its name is {name}, and there is a pool of that name already"))
    if request.name is not None and request.name != name:
        raise Refused(("name", f"pool {request.guid} is called {name}, and an import does not give it another name"))


def _remade(stray: Health, layout: Layout) -> str:
    """The guid of a pool that is here, where it is the one that is to be made. Raises Refused."""
    if is_made_so(stray.topology, layout):
        return stray.guid
    why = f"a pool {stray.name} made otherwise is imported here and not configured; pool.import_pool takes it up"
    raise Refused(("name", f"{why} (guid {stray.guid})"))


def _left_here(one: Health) -> FoundEntry:
    return FoundEntry(name=one.name, guid=one.guid, status=one.status, hostname=None, exported=False, imported=True)


def _on_the_disks(one: Found) -> FoundEntry:
    return FoundEntry(
        name=one.name,
        guid=one.guid,
        status=one.status,
        hostname=one.last_used_by,
        exported=not one.foreign,
        imported=False,
    )


async def _mount_by_name(store: PoolStore, name: str) -> None:
    """A pool that comes from elsewhere may say that it is mounted in another place."""
    mountpoints = [dataset.mountpoint for dataset in await store.datasets(name) if dataset.id == name]
    if mountpoints != [f"{MOUNTS}/{name}"]:
        await store.set_dataset(name, {"mountpoint": None})


async def _check_not_last(call: Call, one: pool.Pool) -> None:
    others = [other for other in call.state(pool.NOUN).pools if other != one]
    settings = msgspec.convert(await call.query("failover.config"), Policy, from_attributes=True)
    if not others and call.controller.facts().paired and not settings.disabled:
        raise CallFailed(
            errno.EOPNOTSUPP, f"{one.name} is the last pool, and failover is enabled: disable failover first"
        )


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What of `failover.config` matters here."""

    disabled: bool


METHODS = (query_pools, get_instance, create, import_find, import_pool, export, scrub)
