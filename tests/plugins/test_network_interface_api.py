"""The methods of `interface`, as clients call them, and the effects."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import effects, interface, vip
from middlewared_plugins.network import plugin as network
from middlewared_plugins.network.interface_rules import Address, Interface, Virtual

from middlewared.engine.duties import DutyContext
from middlewared.engine.standin import dispatcher
from middlewared.engine.standin_parts import MemoryHost
from middlewared.kernel.facts import FailoverGroup, HostLink, Sighting, SightingKind, Vip, VipState
from tests.plugins.client import Client
from tests.plugins.view import MemoryView

UPDATE = {
    "aliases": [{"type": "INET", "address": "192.0.2.1", "netmask": 24}],
    "failover_aliases": [{"address": "192.0.2.2"}],
    "failover_virtual_aliases": [{"address": "192.0.2.10"}],
    "failover_critical": True,
    "failover_group": 1,
    "failover_vhid": 20,
}
ETH0 = Interface(
    name="eth0",
    aliases=(Address(address="192.0.2.1", prefix=24),),
    failover_aliases=(Address(address="192.0.2.2", prefix=24),),
    virtual_aliases=(Virtual(address="192.0.2.10", vhid=20),),
    critical=True,
    group=1,
)


def link(name: str, *, interlink: bool = False) -> HostLink:
    addresses = (("169.254.10.1", 30),) if interlink else (("192.0.2.77", 24),)
    return HostLink(
        name=name,
        mac="02:00:00:00:00:01",
        kind="veth",
        mtu=1500,
        carrier=True,
        addresses=addresses,
        interlink=interlink,
    )


def seen(kind: SightingKind) -> Sighting:
    return Sighting(
        kind=kind,
        interface="eth0",
        vhid=20,
        address="",
        who="192.0.2.99",
        how="VRRP adverts",
        count=3,
        first_at=1.0,
        last_at=2.0,
    )


class World:
    """An administrator at a controller with eth0 and the interlink il0. paired: is one of two."""

    def __init__(self) -> None:
        self.api, self.engine, _ = dispatcher(network, failover)
        assert isinstance(self.api.host, MemoryHost)
        self.api.host.links = [link("eth0"), link("il0", interlink=True)]
        self.admin = Client(self.api, "FULL_ADMIN")

    async def call(self, method: str, *params: object) -> Any:
        return await self.admin.call(method, *params)

    async def do_duty(self) -> None:
        (duty,) = network.duties
        await duty.run(DutyContext(self.engine, self.engine))

    def facts(self, **fields: object) -> None:
        self.engine.facts_now = msgspec.structs.replace(self.engine.facts_now, **fields)

    async def pair(self, *, disabled: bool) -> None:
        self.facts(paired=True)
        await self.call("failover.update", {"disabled": disabled})


@pytest.fixture
def world() -> World:
    return World()


async def test_an_unconfigured_interface_shows_what_the_kernel_says(world: World) -> None:
    eth0, il0 = await world.call("interface.query")
    assert (eth0["id"], eth0["type"], eth0["aliases"], eth0["failover_vhid"]) == ("eth0", "PHYSICAL", [], None)
    assert eth0["state"]["aliases"] == [{"type": "INET", "address": "192.0.2.77", "netmask": 24}]
    assert (eth0["state"]["link_state"], eth0["state"]["tags"]) == ("LINK_STATE_UP", [])
    assert il0["state"]["tags"] == ["Interlink"]
    assert [row["id"] for row in await world.call("interface.query", [["id", "=", "il0"]])] == ["il0"]


async def test_s19_before_pairing_everything_is_edited_put_to_the_test_and_kept(world: World) -> None:
    told = await world.call("interface.update", "eth0", UPDATE)
    assert told["failover_aliases"] == [{"type": "INET", "address": "192.0.2.2", "netmask": 24}]
    assert told["failover_virtual_aliases"] == [{"type": "INET", "address": "192.0.2.10", "netmask": 32, "vhid": 20}]
    assert (told["failover_critical"], told["failover_group"], told["failover_vhid"]) == (True, 1, 20)
    assert await world.call("interface.has_pending_changes") is True
    assert await world.call("interface.network_config_to_be_removed") == []
    assert await world.call("interface.checkin_waiting") is None
    assert await world.call("interface.commit", {"checkin_timeout": 10}) is None
    assert 9 < await world.call("interface.checkin_waiting") <= 10
    assert await world.call("interface.checkin") is None
    assert await world.call("interface.checkin_waiting") is None
    assert await world.call("interface.has_pending_changes") is False
    (group,) = await world.call("interface.failover_groups")
    assert group == {"number": 1, "interfaces": ["eth0"]}


async def test_t22_the_state_shows_the_group_the_interlink_and_each_vhid(world: World) -> None:
    held = VipState(
        vhid=20,
        address="192.0.2.10",
        interface="eth0",
        state="MASTER",
        since=1.0,
        why="owner of term 5",
        rivals=1,
        conflicts=2,
        rejected=3,
        rejected_by={"bad digest": 3},
        advskew=1,
    )
    await world.call("interface.update", "eth0", UPDATE)
    await world.call("interface.commit", {"rollback": False})
    world.facts(vips=(held,), sightings=(seen("DUPLICATE_VHID"),))
    state = (await world.call("interface.get_instance", "eth0"))["state"]
    assert state["tags"] == ["CriticalGroup1"]
    (carp,) = state["carp_config"]
    assert (carp["vhid"], carp["state"], carp["advskew"], carp["rejected"]) == (20, "MASTER", 1, {"bad digest": 3})
    assert state["strangers"][0]["who"] == "192.0.2.99"
    assert (await world.call("network.vip.config"))["address"] == "192.0.2.10"


async def test_t25_while_failover_is_enabled_nothing_is_edited_and_the_error_names_the_setting(world: World) -> None:
    await world.pair(disabled=False)
    for method, arguments in (
        ("interface.update", ["eth0", UPDATE]),
        ("interface.delete", ["eth0"]),
        ("interface.commit", []),
    ):
        told = await world.call(method, *arguments)
        assert told["errname"] == "EPERM"
        assert "failover.update" in told["reason"]
    assert await world.call("interface.has_pending_changes") is False
    await world.pair(disabled=True)
    assert (await world.call("interface.update", "eth0", UPDATE))["id"] == "eth0"
    assert await world.call("interface.commit") is None
    await world.pair(disabled=False)
    assert await world.call("interface.checkin") is None


async def test_s20_faults_are_triples_under_the_names_that_clients_know(world: World) -> None:
    told = await world.call("interface.update", "eth0", {**UPDATE, "failover_group": None, "failover_vhid": 300})
    assert told["extra"] == [
        [
            "interface_update.failover_group",
            "A failover group is required when configuring a critical failover interface.",
            22,
        ],
        ["interface_update.failover_vhid", "300 is not a virtual host id from 1 to 255", 22],
    ]
    told = await world.call("interface.update", "eth0", {**UPDATE, "failover_aliases": []})
    assert told["extra"] == [
        ["interface_update.failover_aliases", "there are 0 addresses of the other controller, and 1 in aliases", 22]
    ]
    told = await world.call("failover.update", {"timeout": 3600})
    assert [field for field, _, _ in told["extra"]] == ["failover_update.timeout"]


async def test_s20_a_vhid_that_a_router_on_this_network_has_is_refused(world: World) -> None:
    world.facts(sightings=(seen("FOREIGN_VHID"),))
    told = await world.call("interface.update", "eth0", UPDATE)
    assert told["extra"] == [["interface_update.failover_vhid", "VHID 20 is in use on this network", 22]]


async def test_what_is_not_offered_is_refused_and_says_so(world: World) -> None:
    told = await world.call(
        "interface.update", "eth0", {"name": "lan", "ipv4_dhcp": True, "ipv6_auto": True, "mtu": 9000}
    )
    assert [field for field, _, _ in told["extra"]] == [
        f"interface_update.{field}" for field in ("name", "ipv4_dhcp", "ipv6_auto", "mtu")
    ]
    told = await world.call("interface.create", {"type": "VLAN", "name": "vlan1"})
    assert (told["errname"], "VLAN" in told["reason"]) == ("ENOTSUP", True)
    assert (await world.call("interface.update", "eth9", {}))["errname"] == "ENOENT"
    assert (await world.call("interface.get_instance", "eth9"))["errname"] == "ENOENT"
    assert (await world.call("interface.update", "il0", UPDATE))["errname"] == "EPERM"


async def test_what_clients_send_along_with_a_form_is_taken(world: World) -> None:
    form = {"name": "eth0", "description": "", "ipv4_dhcp": False, "ipv6_auto": False, "mtu": None}
    assert (await world.call("interface.update", "eth0", {**form, **UPDATE}))["failover_vhid"] == 20


async def test_a_single_virtual_address_may_not_take_what_an_interface_has(world: World) -> None:
    await world.call("interface.update", "eth0", UPDATE)
    await world.call("interface.commit", {"rollback": False})
    other = {"address": "10.0.0.9", "prefix": 24, "interface": "eth1", "vhid": 20}
    assert (await world.call("network.vip.update", other))["extra"][0][0] == "network_vip_update.vhid"
    other = {"address": "192.0.2.10", "prefix": 24, "interface": "eth1", "vhid": 9}
    assert (await world.call("network.vip.update", other))["extra"][0][0] == "network_vip_update.address"
    assert (await world.call("network.vip.update", {**other, "address": "10.0.0.9"}))["vhid"] == 9


async def test_the_summary_tells_addresses_routes_and_name_servers(world: World) -> None:
    await world.api.host.set_default_route(4, "192.0.2.254")
    await world.api.host.write_resolv_conf(["192.0.2.53"], [])
    assert await world.call("network.general.summary") == {
        "ips": {
            "eth0": {"IPV4": ["192.0.2.77/24"], "IPV6": []},
            "il0": {"IPV4": ["169.254.10.1/30"], "IPV6": []},
        },
        "default_routes": ["192.0.2.254"],
        "nameservers": ["192.0.2.53"],
    }


# The deadline


async def test_s12_a_trial_that_nobody_checked_in_is_rolled_back_by_whoever_is_active(world: World) -> None:
    world.facts(boot_id="first", uptime_s=1000.0, wall_ns=10**18)
    await world.call("interface.update", "eth0", UPDATE)
    await world.call("interface.commit", {"checkin_timeout": 10})
    world.facts(boot_id="second", uptime_s=5.0, wall_ns=10**18 + 9 * 10**9)
    await world.do_duty()
    assert await world.call("interface.has_pending_changes") is True
    world.facts(wall_ns=10**18 + 10 * 10**9)
    await world.do_duty()
    assert await world.call("interface.has_pending_changes") is False
    assert await world.call("interface.failover_groups") == []


# The effects


async def test_each_controller_sets_its_own_addresses_and_carpd_is_told_vips_and_groups() -> None:
    for node, address in (("A", "192.0.2.1"), ("B", "192.0.2.2")):
        view = MemoryView("A" if node == "A" else "B")
        view.set(interface.NOUN, interface.Interfaces(saved=(ETH0,)))
        for effect in effects.EFFECTS:
            await effect.reconcile(view)
        assert view.kept.kept["addresses"] == {"eth0": [(address, 24)]}
        assert view.told.vips == [Vip(vhid=20, address="192.0.2.10", prefix=24, interface="eth0")]
        assert view.told.groups == [FailoverGroup(number=1, interfaces=("eth0",))]


async def test_t18_fenced_is_told_when_an_interface_that_counts_is_an_aggregate() -> None:
    view = MemoryView()
    view.set(interface.NOUN, interface.Interfaces(saved=(ETH0,)))
    view.kept.links = [link("eth0"), msgspec.structs.replace(link("eth1"), kind="bond")]
    await effects.announce_vips(view)
    assert not view.told.lagg
    view.kept.links = [msgspec.structs.replace(link("eth0"), kind="bond")]
    await effects.announce_vips(view)
    assert view.told.lagg


async def test_the_single_virtual_address_stands_beside_those_of_interfaces() -> None:
    view = MemoryView()
    view.set(interface.NOUN, interface.Interfaces(saved=(ETH0,)))
    single = Vip(vhid=7, address="10.0.0.9", prefix=24, interface="eth1")
    view.set(vip.NOUN, vip.VirtualAddress(vip=single))
    await effects.announce_vips(view)
    assert [each.vhid for each in view.told.vips or ()] == [20, 7]
    view.set(vip.NOUN, vip.VirtualAddress(vip=msgspec.structs.replace(single, vhid=20)))
    await effects.announce_vips(view)
    assert [each.address for each in view.told.vips or ()] == ["192.0.2.10"]
