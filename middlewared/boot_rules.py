"""What the fields of the boot file must be to each other, and why. Pure.

Each controller reads its own file, so these relations are all that keeps two of them from owning by the intervals. They
are held before anything is started, by `middlewared config check` and by each of the three processes.

A rule is a generator of faults over `Fields`, the file as it is: `timing.lease_s` -> 1.0, `interlink` -> True where
there is such a section. A rule that asks for a field which is missing or has the wrong type ends there; that fault is
told by whoever read the file. So all rules can be asked whatever else is wrong, and every fault is told at once.

What is not held here: that the files of the two controllers fit each other. They compare what they must know of each
other when they speak (HELLO); intervals may differ, each relation holds for each side alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import TypeAlias

import msgspec

SOCKET_NAME_BYTES = 107
"""What a unix socket's name may have: sizeof(sun_path) - 1, unix(7)."""

IpAddress: TypeAlias = IPv4Address | IPv6Address


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    value: as it stands in the file, "" where nothing does. relation: what it is not. reason: what that would lead to.
    """

    field: str
    value: str
    relation: str
    reason: str = ""

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value else ""
        return f"{self.field}{value}: {self.relation}" + (f"; {self.reason}" if self.reason else "")


class Unknown(Exception):
    """A rule asked for a field that is not there or has no value that could be judged."""


class Fields:
    """The fields of a boot file by their full names. Each question raises Unknown where there is no answer."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def has(self, section: str) -> bool:
        return section in self._values

    def number(self, field: str) -> float:
        value = self._values.get(field)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Unknown(field)
        return float(value)

    def text(self, field: str) -> str:
        value = self._values.get(field)
        if not isinstance(value, str):
            raise Unknown(field)
        return value

    def texts(self, field: str) -> list[str]:
        value = self._values.get(field)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise Unknown(field)
        return list(value)

    def address(self, field: str) -> IpAddress:
        try:
            return ip_address(self.text(field))
        except ValueError:
            raise Unknown(field) from None

    def fault(self, field: str, relation: str, reason: str = "") -> Fault:
        value = shown(self._values[field]) if field in self._values else ""
        return Fault(field=field, value=value, relation=relation, reason=reason)


Rule: TypeAlias = Callable[[Fields], Iterator[Fault]]


def faults_in(values: Mapping[str, object]) -> list[Fault]:
    """Every rule that `values` break, in the order of the rules."""
    fields = Fields(values)
    return [fault for rule in RULES for fault in _asked(rule, fields)]


def _asked(rule: Rule, fields: Fields) -> Iterator[Fault]:
    try:
        yield from rule(fields)
    except Unknown:
        return


def shown(value: object) -> str:
    """A value as it would stand in the file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return msgspec.json.encode(value, enc_hook=str).decode()


# Intervals


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """timing.`field` must be `relation` the limit that `names` says in words."""

    field: str
    relation: str
    names: str
    limit: Callable[[Fields], float]
    reason: str

    def __call__(self, fields: Fields) -> Iterator[Fault]:
        value, limit = fields.number(self.field), self.limit(fields)
        if not _RELATIONS[self.relation](value, limit):
            figure = "" if self.names == f"{limit:g}" else f" ({limit:g})"
            yield fields.fault(self.field, f"must be {self.relation} {self.names}{figure}", self.reason)


_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "more than": operator.gt,
    "at least": operator.ge,
    "less than": operator.lt,
    "at most": operator.le,
}


def _bound(field: str, relation: str, names: str, reason: str) -> Bound:
    """names: a sum of products of fields of [timing] and numbers, as "stall_s + renew_s" or "3 x disk_ms / 1000"."""

    def limit(fields: Fields) -> float:
        return sum(_product(fields, term) for term in names.split(" + "))

    return Bound(field=f"timing.{field}", relation=relation, names=names, limit=limit, reason=reason)


def _product(fields: Fields, term: str) -> float:
    product = 1.0
    for factor in term.split(" x "):
        number, _, thousand = factor.partition(" / ")
        value = fields.number(f"timing.{number}") if number[0].isalpha() else float(number)
        product *= value / float(thousand) if thousand else value
    return product


_INTERVALS = (
    _bound("renew_s", "more than", "0", "the address would be renewed without end"),
    _bound("heartbeat_ms", "at least", "10", "more beats than that keep two processors busy and tell nothing more"),
    _bound("advert_ms", "at least", "4", "an advert carries its interval in 256ths of a second"),
    _bound("advert_ms", "less than", "255000", "an advert carries at most 255 seconds"),
    _bound("disk_ms", "at least", "20", "fenced looks every 20 ms"),
    _bound("stall_s", "more than", "renew_s", "every renewal would be taken for one that is too late"),
    _bound("lease_s", "at least", "stall_s + renew_s", "a late renewal could create the address anew after its lease"),
    _bound(
        "lease_s",
        "more than",
        "disk_dead_ms / 1000",
        "an owner whose disks answer slowly would give up before anybody takes it for gone",
    ),
    _bound("held_s", "at least", "lease_s + renew_s", "a frozen owner's kernel would still answer for the address"),
    _bound("heartbeat_dead_ms", "at least", "3 x heartbeat_ms", "two lost datagrams would be taken for a death"),
    _bound("advert_dead_count", "at least", "3", "two lost adverts would be taken for a death"),
    _bound("disk_dead_ms", "at least", "2.5 x disk_ms", "two slow writes would be taken for a death"),
    _bound(
        "settle_s",
        "more than",
        "advert_dead_count x advert_ms / 1000 + disk_dead_ms / 1000",
        "a controller that boots would claim before it could have noticed the other",
    ),
    _bound("settle_s", "at least", "held_s", "a controller that boots would not wait for a frozen owner's lease"),
    _bound("settle_s", "at most", "3600", "a controller that boots alone would not serve for that long"),
)


def lease_is_whole(fields: Fields) -> Iterator[Fault]:
    lease_s = fields.number("timing.lease_s")
    if lease_s != round(lease_s, 0):
        reason = "the kernel counts the life of an address in seconds, and would keep it for longer"
        yield fields.fault("timing.lease_s", "must be a whole number of seconds", reason)


# Places


def _directories(fields: Fields) -> Iterator[Fault]:
    for field in ("data_dir", "run_dir"):
        if not fields.text(field).startswith("/"):
            yield fields.fault(field, "must be an absolute path", "the three processes start in different places")
    data, run = (fields.text(field).rstrip("/") + "/" for field in ("data_dir", "run_dir"))
    if data.startswith(run):
        yield fields.fault("data_dir", f"must not lie in run_dir ({run[:-1]})", "that one is emptied at every boot")


def _sockets(fields: Fields) -> Iterator[Fault]:
    for name in ("fenced.sock", "middlewared.sock"):
        path = f"{fields.text('run_dir')}/{name}"
        if len(path.encode()) > SOCKET_NAME_BYTES:
            relation = f"must be shorter by {len(path.encode()) - SOCKET_NAME_BYTES} bytes"
            yield fields.fault("run_dir", relation, f"{path} is longer than a socket's name may be")
            return


def _free_floor(fields: Fields) -> Iterator[Fault]:
    if fields.number("storage.free_floor_mib") < 1:
        yield fields.fault("storage.free_floor_mib", "must be at least 1", "the databases need room to be opened")


# Addresses and ports


def parse_listen(listen: str) -> tuple[str, int] | None:
    """ADDRESS:PORT, an IPv6 address in brackets; None where it is not that."""
    host, colon, port = listen.rpartition(":")
    try:
        ip_address(host.strip("[]"))
        return (host.strip("[]"), int(port)) if colon and 0 < int(port) < 65536 else None
    except ValueError:
        return None


def _listen(fields: Fields) -> Iterator[Fault]:
    if parse_listen(fields.text("listen")) is None:
        yield fields.fault("listen", "is not ADDRESS:PORT")


def _addresses(fields: Fields) -> Iterator[Fault]:
    for field in ("interlink.address", "interlink.peer"):
        try:
            address = ip_address(fields.text(field))
        except ValueError:
            yield fields.fault(field, "is not an IP address")
            continue
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            yield fields.fault(field, "must be an address of one controller on its interlink")
        elif address.version == 6 and address.is_link_local:
            reason = "it is none without the interface, which has another name on the other side"
            yield fields.fault(field, "must not be a link-local address of IPv6", reason)


def _two_ends(fields: Fields) -> Iterator[Fault]:
    address, peer = fields.address("interlink.address"), fields.address("interlink.peer")
    if address == peer:
        yield fields.fault("interlink.peer", "is this controller's own address")
    elif address.version != peer.version:
        yield fields.fault("interlink.peer", f"must be an IPv{address.version} address, as interlink.address is")
    else:
        yield from _one_network(fields, address, peer)


def _one_network(fields: Fields, address: IpAddress, peer: IpAddress) -> Iterator[Fault]:
    prefix = int(fields.number("interlink.prefix"))
    if not 0 < prefix < address.max_prefixlen:
        yield fields.fault("interlink.prefix", f"must be between 1 and {address.max_prefixlen - 1}")
        return
    network = ip_network(f"{address}/{prefix}", strict=False)
    if peer not in network:
        reason = "without a router between them they would not find each other"
        yield fields.fault("interlink.peer", f"must lie in {network}, interlink.address's network", reason)
    for field, ip in (("interlink.address", address), ("interlink.peer", peer)):
        if prefix < ip.max_prefixlen - 1 and ip.version == 4 and ip in (network[0], network[-1]):
            yield fields.fault(field, f"must not be the first or the last address of {network}")


def _interface_of(section: str) -> Rule:
    def rule(fields: Fields) -> Iterator[Fault]:
        name = fields.text(f"{section}.interface")
        if not 0 < len(name.encode()) < 16 or "/" in name or any(c.isspace() for c in name):
            yield fields.fault(f"{section}.interface", "is not the name of a network interface")

    return rule


def _first_address(fields: Fields) -> Iterator[Fault]:
    try:
        own = ip_interface(f"{fields.text('first_address.address')}/{int(fields.number('first_address.prefix'))}")
    except ValueError:
        yield fields.fault("first_address.address", "is not an IP address with a prefix that it may have")
        return
    if own.ip.is_multicast or own.ip.is_unspecified or own.ip.is_loopback or own.ip.is_link_local:
        yield fields.fault("first_address.address", "must be an address that others can reach")
    if fields.text("first_address.interface") == fields.text("interlink.interface"):
        yield fields.fault("first_address.interface", "must not be the interlink", "only the other controller is there")
    if fields.address("interlink.address") in own.network:
        reason = "the way to the other controller would be ambiguous"
        yield fields.fault("first_address.address", "must not lie in the interlink's network", reason)


def _ports(fields: Fields) -> Iterator[Fault]:
    port = int(fields.number("interlink.port"))
    if not 0 < port < 65535:
        reason = "the one after it is the pairing's"
        yield fields.fault("interlink.port", "must be between 1 and 65534", reason)
        return
    listens = parse_listen(fields.text("listen"))
    if listens is None or listens[1] not in (port, port + 1):
        return
    if ip_address(listens[0]).is_unspecified or listens[0] == fields.text("interlink.address"):
        used = "interlink.port" if listens[1] == port else "interlink.port + 1, the pairing's port"
        yield fields.fault("listen", f"must not have the port {listens[1]}", f"it is {used}")


# Shared disks


def _voters(fields: Fields) -> Iterator[Fault]:
    if fields.has("voters") and not fields.has("interlink"):
        reason = "two controllers that share disks must hear of each other"
        yield Fault(field="voters", value="", relation="needs an [interlink]", reason=reason)


def _paths(fields: Fields) -> Iterator[Fault]:
    paths = fields.texts("voters.paths")
    if len(paths) not in (3, 5):
        reason = f"{len(paths)} have no better majority than fewer" if len(paths) > 2 else "it needs a majority"
        yield fields.fault("voters.paths", f"must be 3 or 5 shared disks, not {len(paths)}", reason)
    others = fields.texts("voters.others")
    if twice := set(paths) & set(others):
        yield fields.fault("voters.others", f"must not name a disk that is in paths, as {min(twice)}")
    if len(set(paths)) != len(paths):
        yield fields.fault("voters.paths", "must not name a disk twice", "it would vote twice")
    if relative := [path for path in paths + others if not path.startswith("/")]:
        yield fields.fault("voters", f"must be absolute paths, which {relative[0]} is not")
    yield from _names_of_their_own(fields, paths, others)
    slots = fields.text("voters.slots")
    if slots != "register" and not slots.startswith("/"):
        yield fields.fault("voters.slots", 'must be "register" or an absolute path')


def _names_of_their_own(fields: Fields, paths: list[str], others: list[str]) -> Iterator[Fault]:
    """A disk is called by the last part of its path: two with one name would count, and be written, as one."""
    reason = "a disk is called by the last part of its path, and its slot area lies under that name"
    called: dict[str, str] = {}
    for field, disks in (("voters.paths", paths), ("voters.others", others)):
        for path in disks:
            first = called.setdefault(_last_part(path), path)
            if first != path:
                relation = f"must not name two disks whose paths end alike, as {first} and {path}"
                yield fields.fault(field, relation, reason)
                break


def _last_part(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return parts[-1] if parts else ""


def _pools(fields: Fields) -> Iterator[Fault]:
    if not fields.text("pools.disks").startswith("/"):
        yield fields.fault("pools.disks", "must be an absolute path")
    if fields.has("interlink") and not fields.has("voters"):
        reason = "nothing would say which of the two may import a pool"
        yield Fault(field="pools", value="", relation="of two controllers need [voters]", reason=reason)


RULES: tuple[Rule, ...] = (
    _directories,
    _sockets,
    _listen,
    _interface_of("interlink"),
    _addresses,
    _two_ends,
    _ports,
    _interface_of("first_address"),
    _first_address,
    _voters,
    _paths,
    _pools,
    _free_floor,
    *_INTERVALS,
    lease_is_whole,
)
