"""The methods of `network.configuration`, `network.vip` and `network.general`."""

from __future__ import annotations

import msgspec

from middlewared.kernel.errors import Refused
from middlewared.kernel.facts import Vip
from middlewared.plugin import Call, command, query

from . import configuration, interface, vip


class LiveState(msgspec.Struct, frozen=True, kw_only=True):
    """What this controller really uses at this moment."""

    nameserver1: str
    nameserver2: str
    nameserver3: str
    ipv4gateway: str
    ipv6gateway: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`network.configuration` as clients know it."""

    id: int
    hostname: str
    hostname_b: str
    hostname_virtual: str
    hostname_local: str
    domain: str
    domains: tuple[str, ...]
    nameserver1: str
    nameserver2: str
    nameserver3: str
    ipv4gateway: str
    ipv6gateway: str
    hosts: tuple[str, ...]
    state: LiveState


@query("network.configuration.config", roles=("NETWORK_GENERAL_READ",))
async def config(call: Call) -> Entry:
    """The names, name servers and gateways of the pair, and what this controller uses of them."""
    return await _entry(call)


async def _entry(call: Call) -> Entry:
    state = call.state(configuration.NOUN)
    fields = msgspec.structs.asdict(state)
    hostnames = fields.pop("hostnames")
    return Entry(
        id=1,
        hostname=hostnames.A,
        hostname_b=hostnames.B,
        hostname_local=hostnames.of(call.node),
        state=await _live(call),
        **fields,
    )


async def _live(call: Call) -> LiveState:
    servers = [*await call.host.nameservers(), "", "", ""]
    return LiveState(
        nameserver1=servers[0],
        nameserver2=servers[1],
        nameserver3=servers[2],
        ipv4gateway=await call.host.default_route(4) or "",
        ipv6gateway=await call.host.default_route(6) or "",
    )


@command("network.configuration.update", takes="network_configuration_update", roles=("NETWORK_GENERAL_WRITE",))
async def update(call: Call, network_configuration_update: configuration.Update) -> Entry:
    """Change the names, name servers or gateways; what is left out stays."""
    await call.execute(network_configuration_update)
    return await _entry(call)


@query("network.vip.config", roles=("NETWORK_INTERFACE_READ",))
async def vip_config(call: Call) -> Vip | None:
    """The virtual address with its VHID, else the first of an interface; null if there is none."""
    of_interfaces = call.state(interface.NOUN).vips
    return call.state(vip.NOUN).vip or (of_interfaces[0] if of_interfaces else None)


@command("network.vip.update", takes="network_vip_update", roles=("NETWORK_INTERFACE_WRITE",))
async def vip_update(call: Call, network_vip_update: vip.Update) -> Vip | None:
    """Set the virtual address: address, prefix, interface (the same on both controllers) and VHID (1-255).

    For one virtual address on an interface that is configured elsewhere; interface.update has as many as there are.
    """
    for other in call.state(interface.NOUN).vips:
        if other.vhid == network_vip_update.vhid:
            raise Refused(("vhid", f"VHID {other.vhid} is in use by {other.address} of interface {other.interface}"))
        if other.address == network_vip_update.address:
            raise Refused(("address", f"{other.address} is an address of interface {other.interface} already"))
    await call.execute(network_vip_update)
    return call.state(vip.NOUN).vip


@command("network.vip.delete", roles=("NETWORK_INTERFACE_WRITE",))
async def vip_delete(call: Call) -> None:
    """Have no virtual address."""
    await call.execute(vip.Delete())


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """With prefix length."""

    IPV4: tuple[str, ...]
    IPV6: tuple[str, ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What the controller that answers really uses."""

    ips: dict[str, Addresses]
    default_routes: tuple[str, ...]
    nameservers: tuple[str, ...]


@query("network.general.summary", roles=("NETWORK_GENERAL_READ",))
async def summary(call: Call) -> Summary:
    """The addresses of this controller's interfaces, its default routes and its name servers."""
    ips = {}
    for link in await call.host.interfaces():
        told = [f"{address}/{prefix}" for address, prefix in link.addresses]
        six = tuple(each for each in told if ":" in each)
        ips[link.name] = Addresses(IPV4=tuple(each for each in told if each not in six), IPV6=six)
    routes = (await call.host.default_route(4), await call.host.default_route(6))
    return Summary(
        ips=ips,
        default_routes=tuple(route for route in routes if route is not None),
        nameservers=tuple(await call.host.nameservers()),
    )


METHODS = (summary, config, update, vip_config, vip_update, vip_delete)
