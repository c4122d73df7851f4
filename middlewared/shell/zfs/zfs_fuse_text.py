"""What the commands of zfs-fuse 0.7 print (pool version 23, before OpenZFS), read. Pure.

Golden outputs stand in tests/shell/zfs/golden. It knows no exact sizes of pools (`-p`): they are as `zpool list` rounds
them, to three digits. It has no state for a pool that has stopped because its disks refuse: the state says ONLINE, and
the code of the message tells it (ZFS-8000-HC, -JQ). Nor has it one for a pool whose last writes landed nowhere, while
their fsync was answered: the count of write errors on the pool's own line tells it, until they are cleared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from middlewared.kernel.pools import Dataset, Found, Health, Imported, Property, Scan, Topology, VdevHealth

LIST = "name,guid,health,size,allocated,free"

_UNITS = {"": 1, "B": 1, **{unit: 1024 ** (n + 1) for n, unit in enumerate("KMGTPE")}}
_COUNTS = {"": 1, **{unit: 1000 ** (n + 1) for n, unit in enumerate("KMGTPE")}}
_NUMBER = re.compile(r"([0-9.]+)([BKMGTPE]?)")
_SUSPENDED = ("ZFS-8000-HC", "ZFS-8000-JQ")
_FOREIGN = "ZFS-8000-EY"
_SCAN = re.compile(
    r"(?P<what>scrub|resilver) (?:in progress for \S+, (?P<percent>[0-9.]+)% done"
    r"|(?P<end>completed|stopped) after \S+ with (?P<errors>\d+) errors)"
)
_SOURCES: dict[str, Literal["LOCAL", "DEFAULT", "NONE"]] = {"local": "LOCAL", "default": "DEFAULT", "-": "NONE"}
_GROUPS = {"logs": "log", "cache": "cache", "spares": "spare"}
_GROUP_VDEV = re.compile(r"(mirror|raidz[123]?|spare|replacing)(-\d+)?$")


def pool_list(text: str) -> dict[str, tuple[Imported, tuple[int, int, int]]]:
    """`zpool list -H -o LIST`: name -> the pool, and its size, what is allocated and what is free."""
    pools = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, guid, _, *sizes = line.split("\t")
        size, allocated, free = map(_size, sizes)
        pools[name] = (Imported(name=name, guid=guid), (size, allocated, free))
    return pools


def health(text: str, pool: Imported, sizes: tuple[int, int, int], *, mounted: bool) -> Health:
    """`zpool status NAME`."""
    fields = _fields(text)
    tree = _lines(fields.get("config", ""))
    errors = re.match(r"\d+", fields.get("errors", ""))
    size, allocated, free = sizes
    return Health(
        name=pool.name,
        guid=pool.guid,
        status=_status(fields, tree),
        detail=fields.get("status", ""),
        size=size,
        allocated=allocated,
        free=free,
        topology=_topology(tree),
        scan=_scan(fields.get("scrub", "")),
        data_errors=int(errors[0]) if errors else 0,
        mounted=mounted,
    )


def _status(fields: Mapping[str, str], tree: Sequence[_Line]) -> str:
    if fields.get("see", "").endswith(_SUSPENDED):
        return "SUSPENDED"
    lost_writes = tree[0].words[3] if tree and len(tree[0].words) > 3 else "0"
    return "FAULTED" if _count(lost_writes) else fields.get("state", "UNKNOWN")


def found(text: str) -> list[Found]:
    """`zpool import -d DIR`; who used a pool last is not in it."""
    pools = []
    for part in re.split(r"^(?=  pool: )", text, flags=re.MULTILINE):
        fields = _fields(part)
        if "pool" not in fields or "id" not in fields:
            continue
        leaves = _topology(_lines(fields.get("config", ""))).leaves()
        pools.append(
            Found(
                name=fields["pool"],
                guid=fields["id"],
                status=fields.get("state", "UNKNOWN"),
                foreign=fields.get("see", "").endswith(_FOREIGN),
                last_used_by=None,
                devices=tuple(leaf.path for leaf in leaves if leaf.path and leaf.status in ("ONLINE", "")),
            )
        )
    return pools


def last_host(label: str) -> str | None:
    """`zdb -l DEVICE`: the host that had the pool imported when the label was written."""
    name = re.search(r"^\s*hostname: '(.*)'$", label, re.MULTILINE)
    return name[1] if name else None


def datasets(text: str, mounts: dict[str, str]) -> list[Dataset]:
    """`zfs get -r -Hp -o name,property,value,source all POOL`, file systems only. mounts: see zfs.mounts."""
    properties: dict[str, dict[str, Property]] = {}
    for line in text.splitlines():
        name, property_, value, source = line.split("\t")
        properties.setdefault(name, {})[property_] = Property(value=value, source=_SOURCES.get(source, "INHERITED"))
    return [
        Dataset(
            id=name,
            used=int(own["used"].value),
            available=int(own["available"].value),
            mountpoint=own["mountpoint"].value if own["mountpoint"].value.startswith("/") else None,
            mounted=mounts.get(name) == own["mountpoint"].value,
            properties=own,
        )
        for name, own in properties.items()
        if own["type"].value == "filesystem"
    ]


def _size(text: str) -> int:
    number = _NUMBER.fullmatch(text)
    return round(float(number[1]) * _UNITS[number[2]]) if number else 0


def _count(text: str) -> int:
    number = _NUMBER.fullmatch(text)
    return round(float(number[1]) * _COUNTS.get(number[2], 1)) if number else 0


def _fields(text: str) -> dict[str, str]:
    """`name: value` with the lines that go on with it; `config` keeps its indentation."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        start = re.match(r"\s*(pool|id|state|status|action|see|scrub|config|errors):\s?(.*)", line)
        if start and not line.startswith("\t"):
            name = start[1]
            fields[name] = start[2].strip()
        elif name == "config":
            fields[name] += "\n" + line
        elif name and line.strip():
            fields[name] += " " + line.strip()
    return fields


def _scan(text: str) -> Scan:
    told = _SCAN.match(text)
    if told is None:
        return Scan()
    state = {"completed": "FINISHED", "stopped": "CANCELED", None: "SCANNING"}[told["end"]]
    return msgspec.convert(
        {
            "function": told["what"].upper(),
            "state": state,
            "percent": float(told["percent"] or (100 if state == "FINISHED" else 0)),
            "errors": int(told["errors"] or 0),
        },
        Scan,
    )


class _Line(msgspec.Struct):
    """A line of the tree of vdevs: how deep, and its words."""

    depth: int
    words: list[str]


def _lines(config: str) -> list[_Line]:
    """The tree, without the heading and what follows it in prose."""
    lines = []
    for line in config.splitlines():
        if not line.startswith("\t") or not line.strip() or line.strip().startswith("NAME "):
            continue
        inner = line[1:]
        if inner.startswith("Additional devices"):
            break
        lines.append(_Line((len(inner) - len(inner.lstrip())) // 2, inner.split()))
    return lines


def _topology(lines: Sequence[_Line]) -> Topology:
    parts: dict[str, list[VdevHealth]] = {"data": [], "log": [], "cache": [], "spare": []}
    kind = "data"
    for start, line in enumerate(lines):
        if line.depth == 0:
            kind = _GROUPS.get(line.words[0], "data") if len(line.words) == 1 else "data"
        elif line.depth == 1:
            parts[kind].append(_vdev(line, list(_below(lines, start))))
    return Topology(**{name: tuple(vdevs) for name, vdevs in parts.items()})


def _below(lines: Sequence[_Line], start: int) -> Iterator[_Line]:
    for line in lines[start + 1 :]:
        if line.depth <= lines[start].depth:
            return
        yield line


def _vdev(line: _Line, below: Sequence[_Line]) -> VdevHealth:
    name, status, *rest = (*line.words, "")
    read, write, checksum = map(_count, (*rest[:3], "0", "0", "0")[:3])
    group = _GROUP_VDEV.match(name)
    children = [
        _vdev(child, list(_below(below, number))) for number, child in enumerate(below) if child.depth == line.depth + 1
    ]
    return VdevHealth(
        name=name,
        type=_type(group[1]) if group else "DISK",
        path=None if group else name if name.startswith("/") else f"/dev/{name}",
        status=status,
        read_errors=read,
        write_errors=write,
        checksum_errors=checksum,
        children=tuple(children),
    )


def _type(word: str) -> str:
    return "RAIDZ1" if word == "raidz" else word.upper()
