"""`pool.dataset`: the file systems of the pools, as ZFS tells them on the controller that has them.

Nothing of them is in the configuration: they are in the pool, and go where it goes. On the standby every method, also
the query, answers as a write does: with the address of the active controller.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.pools import Dataset, Property
from middlewared.plugin import Call, command
from middlewared.plugin.filters import Filters, Options, pick

from . import pool
from .api import store_of

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.: -]*")
LONGEST = 200
NUMBERS = ("quota", "refquota", "reservation", "refreservation")
WORDS = ("compression", "atime", "readonly", "recordsize")
TOLD = ("used", "available", "referenced", *NUMBERS, *WORDS)


class Properties(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes in bytes, null or 0 for none; words as ZFS has them, in capitals, INHERIT to have the parent's again."""

    quota: int | UnsetType | None = UNSET
    refquota: int | UnsetType | None = UNSET
    reservation: int | UnsetType | None = UNSET
    refreservation: int | UnsetType | None = UNSET
    compression: str | UnsetType = UNSET
    atime: str | UnsetType = UNSET
    readonly: str | UnsetType = UNSET
    recordsize: str | UnsetType = UNSET


class CreateRequest(Properties, frozen=True, kw_only=True):
    """name: POOL/NAME, below a dataset that is there."""

    name: str
    type: str = "FILESYSTEM"


class DeleteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """recursive: with the datasets below it, and its snapshots.

    force: taken, and nothing is unmounted from under those who use it: a dataset in use is refused as without it.
    """

    recursive: bool = False
    force: bool = False


class PropertyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """parsed: a number where it is one, null for no limit."""

    parsed: int | str | None
    rawvalue: str
    value: str
    source: str


@command("pool.dataset.query", roles=("DATASET_READ",))
async def query_datasets(call: Call, filters: Filters = [], options: Options = Options()) -> object:  # noqa: B006, B008
    """The datasets of all pools, each with its properties; `mounted` says whether its mountpoint is really it."""
    return pick([_entry(dataset) for dataset in await _datasets(call)], filters, options)


@command("pool.dataset.create", roles=("DATASET_WRITE",), takes="pool_dataset_create")
async def create(call: Call, pool_dataset_create: CreateRequest) -> Mapping[str, object]:
    """Make a dataset, mounted at /mnt/NAME."""
    name = pool_dataset_create.name
    problems = [*_name_problems(call, name), *_value_problems(pool_dataset_create)]
    if pool_dataset_create.type != "FILESYSTEM":
        problems.append(("type", "only FILESYSTEM: volumes need a ZFS that has device nodes for them"))
    if problems:
        raise Refused(*problems)
    wanted = {key: value for key, value in _wanted(pool_dataset_create).items() if value is not None}
    await store_of(call).create_dataset(name, wanted)
    made = await _get(call, name)
    if not made.mounted:
        raise CallFailed(errno.EIO, f"{name} was made and is not mounted")
    return _entry(made)


@command("pool.dataset.update", roles=("DATASET_WRITE",), takes="pool_dataset_update")
async def update(call: Call, id: str, pool_dataset_update: Properties) -> Mapping[str, object]:  # noqa: A002
    """Change what is given; what is left out stays."""
    await _get(call, id)
    if problems := _value_problems(pool_dataset_update):
        raise Refused(*problems)
    await store_of(call).set_dataset(id, _wanted(pool_dataset_update))
    return _entry(await _get(call, id))


@command("pool.dataset.delete", roles=("DATASET_WRITE",), takes="options")
async def delete(call: Call, id: str, options: DeleteOptions = DeleteOptions()) -> bool:  # noqa: A002, B008
    """Delete a dataset with all that is in it."""
    found = await _get(call, id)
    if found.id == found.pool:
        raise CallFailed(errno.EINVAL, f"{id} is a pool: use pool.export with destroy")
    await store_of(call).destroy_dataset(id, recursive=options.recursive)
    return True


async def _datasets(call: Call) -> list[Dataset]:
    """Of every configured pool that is imported here."""
    store = store_of(call)
    here = {one.guid for one in await store.imported()}
    pools = [one.name for one in call.state(pool.NOUN).pools if one.guid in here]
    return [dataset for name in pools for dataset in await store.datasets(name)]


async def _get(call: Call, id_: str) -> Dataset:
    found = next((dataset for dataset in await _datasets(call) if dataset.id == id_), None)
    if found is None:
        raise CallFailed(errno.ENOENT, f"There is no dataset {id_}")
    return found


def _name_problems(call: Call, name: str) -> list[tuple[str, str]]:
    top, *parts = name.split("/")
    if call.state(pool.NOUN).named(top) is None:
        return [("name", f"there is no pool {top}")]
    if not parts or len(name) > LONGEST or not all(_PART.fullmatch(part) for part in parts):
        return [("name", f"{name!r} is not POOL/NAME of letters, digits, blanks and _ . : - in at most {LONGEST}")]
    return []


def _value_problems(asked: Properties) -> list[tuple[str, str]]:
    negative = [name for name in NUMBERS if isinstance(value := getattr(asked, name), int) and value < 0]
    odd = [name for name in WORDS if not re.fullmatch(r"[A-Za-z0-9-]{1,20}", str(getattr(asked, name) or ""))]
    return [
        *((name, "must not be negative") for name in negative),
        *((name, "is no value of a property") for name in odd if getattr(asked, name) is not UNSET),
    ]


def _wanted(asked: Properties) -> dict[str, str | None]:
    """As ZFS takes it; None: inherited."""
    wanted: dict[str, str | None] = {}
    for name in (*NUMBERS, *WORDS):
        value = getattr(asked, name)
        if value is UNSET:
            continue
        if name in NUMBERS:
            wanted[name] = str(value) if value else "none"
        else:
            wanted[name] = None if value.upper() == "INHERIT" else value if name == "recordsize" else value.lower()
    return wanted


def _entry(dataset: Dataset) -> dict[str, object]:
    told = {name: _property(name, dataset.properties[name]) for name in TOLD if name in dataset.properties}
    return {
        "id": dataset.id,
        "name": dataset.id,
        "pool": dataset.pool,
        "type": "FILESYSTEM",
        "mountpoint": dataset.mountpoint,
        "mounted": dataset.mounted,
        **{name: msgspec.to_builtins(entry) for name, entry in told.items()},
    }


def _property(name: str, kept: Property) -> PropertyEntry:
    number = int(kept.value) if kept.value.isdigit() else None
    limit = name in NUMBERS
    return PropertyEntry(
        parsed=(number or None) if limit else number if number is not None else kept.value,
        rawvalue=kept.value,
        value=kept.value.upper() if name in WORDS else kept.value,
        source=kept.source,
    )


METHODS = (query_datasets, create, update, delete)
