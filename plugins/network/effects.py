"""Makes this controller's names, name servers and routes, and carpd's addresses, what the configuration says."""

from __future__ import annotations

from middlewared.plugin import Effect, View

from . import configuration, vip


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


async def announce_vips(view: View) -> None:
    address = view.state(vip.NOUN).vip
    await view.fence.set_vips([address] if address is not None else [])


EFFECTS = (
    Effect(name="hostname", watches=("network.configuration",), reconcile=set_hostname),
    Effect(name="resolv.conf", watches=("network.configuration",), reconcile=write_resolv_conf),
    Effect(name="hosts", watches=("network.configuration",), reconcile=write_hosts),
    Effect(name="IPv4 default route", watches=("network.configuration",), reconcile=set_ipv4_route),
    Effect(name="IPv6 default route", watches=("network.configuration",), reconcile=set_ipv6_route),
    Effect(name="virtual addresses", watches=("network.vip",), reconcile=announce_vips),
)
