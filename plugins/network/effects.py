"""Makes this controller's names, name servers, addresses and routes, and carpd's, what the configuration says."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import FailoverGroup, Vip
from middlewared.plugin import Effect, View

from . import configuration, interface, vip


def _configured(view: View) -> bool:
    """A controller that nobody has configured keeps the names and name servers that it came with."""
    return view.state(configuration.NOUN) != configuration.Configuration()


async def set_hostname(view: View) -> None:
    if not _configured(view):
        return
    await view.host.set_hostname(view.state(configuration.NOUN).hostnames.of(view.node))


async def write_resolv_conf(view: View) -> None:
    if not _configured(view):
        return
    state = view.state(configuration.NOUN)
    await view.host.write_resolv_conf(state.nameservers, state.search)


async def write_hosts(view: View) -> None:
    if not _configured(view):
        return
    state = view.state(configuration.NOUN)
    await view.host.write_hosts(state.hostnames.of(view.node), state.domain, state.hosts)


async def set_ipv4_route(view: View) -> None:
    await view.host.set_default_route(4, view.state(configuration.NOUN).ipv4gateway or None)


async def set_ipv6_route(view: View) -> None:
    await view.host.set_default_route(6, view.state(configuration.NOUN).ipv6gateway or None)


async def set_addresses(view: View) -> None:
    addresses = interface.addresses_of(view.state(interface.NOUN), view.node)
    wanted = {name: [(each.address, each.prefix) for each in found] for name, found in addresses.items()}
    await view.host.set_addresses(wanted)


async def announce_vips(view: View) -> None:
    """Those of the interfaces, and network.vip's where its VHID is free: both may have been set at one moment."""
    state, single = view.state(interface.NOUN), view.state(vip.NOUN).vip
    vips = list(state.vips)
    if single is not None and all(single.vhid != each.vhid for each in vips):
        vips.append(single)
    await view.fence.set_vips(vips, state.groups)
    # Said afterwards: at a start the first question about interfaces takes a tenth of a second, and VIPs wait for none.
    if await _has_aggregate(view, vips, state.groups):
        await view.fence.set_vips(vips, state.groups, lagg=True)


async def _has_aggregate(view: View, vips: Sequence[Vip], groups: Sequence[FailoverGroup]) -> bool:
    """Whether an interface that counts is one, here. What cannot be found out holds no VIP up."""
    counts = {name for group in groups for name in group.interfaces} or {vip.interface for vip in vips}
    with suppress(PortFailed):
        return any(link.is_aggregate and link.name in counts for link in await view.host.interfaces())
    return False


EFFECTS = (
    Effect(name="hostname", watches=("network.configuration",), reconcile=set_hostname),
    Effect(name="resolv.conf", watches=("network.configuration",), reconcile=write_resolv_conf),
    Effect(name="hosts", watches=("network.configuration",), reconcile=write_hosts),
    Effect(name="addresses", watches=("interface",), reconcile=set_addresses),
    # A route goes with the address through which its gateway is reached.
    Effect(name="IPv4 default route", watches=("network.configuration", "interface"), reconcile=set_ipv4_route),
    Effect(name="IPv6 default route", watches=("network.configuration", "interface"), reconcile=set_ipv6_route),
    Effect(name="virtual addresses", watches=("network.vip", "interface"), reconcile=announce_vips),
)
