"""The methods and the effects of network."""

from __future__ import annotations

import pytest
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.network import configuration, effects, interface, vip
from middlewared_plugins.network import plugin as network

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.standin import dispatcher
from middlewared.kernel.facts import PerNode, Vip
from tests.plugins.client import Client
from tests.plugins.view import MemoryView

VIP = {"address": "10.0.0.9", "prefix": 24, "interface": "lan0", "vhid": 7}
CONFIGURED = configuration.Configuration(
    hostnames=PerNode(A="left", B="right"),
    domain="lab.example",
    domains=("example",),
    nameserver2="10.0.0.53",
    ipv4gateway="10.0.0.1",
    hosts=("10.0.0.3 printer",),
)


@pytest.fixture
def api() -> Dispatcher:
    made, _, _ = dispatcher(network, failover)
    return made


@pytest.fixture
def admin(api: Dispatcher) -> Client:
    return Client(api, "FULL_ADMIN")


# The methods


async def test_a_new_system_answers_with_its_defaults_and_with_what_it_really_uses(
    api: Dispatcher, admin: Client
) -> None:
    await api.host.write_resolv_conf(["10.0.0.53", "10.0.0.54"], [])
    await api.host.set_default_route(4, "10.0.0.1")
    assert await admin.call("network.configuration.config") == {
        "id": 1,
        "hostname": "controller-a",
        "hostname_b": "controller-b",
        "hostname_virtual": "",
        "hostname_local": "controller-a",
        "domain": "local",
        "domains": [],
        "nameserver1": "",
        "nameserver2": "",
        "nameserver3": "",
        "ipv4gateway": "",
        "ipv6gateway": "",
        "hosts": [],
        "state": {
            "nameserver1": "10.0.0.53",
            "nameserver2": "10.0.0.54",
            "nameserver3": "",
            "ipv4gateway": "10.0.0.1",
            "ipv6gateway": "",
        },
    }


async def test_hostname_is_controller_as_and_hostname_b_is_bs_whichever_answers(api: Dispatcher, admin: Client) -> None:
    await admin.call("network.configuration.update", {"hostname": "left", "hostname_b": "right"})
    api.node = "B"
    told = await admin.call("network.configuration.config")
    assert (told["hostname"], told["hostname_b"], told["hostname_local"]) == ("left", "right", "right")


async def test_an_update_answers_with_the_configuration_after_it(admin: Client) -> None:
    told = await admin.call("network.configuration.update", {"domain": "lab.example", "hosts": ["10.0.0.3 printer"]})
    assert (told["domain"], told["hosts"], told["hostname"]) == ("lab.example", ["10.0.0.3 printer"], "controller-a")


async def test_faults_come_all_at_once_under_the_name_of_the_object(admin: Client) -> None:
    told = await admin.call("network.configuration.update", {"hostname": "a b", "hosts": ["x"]})
    assert [(field, number) for field, _, number in told["extra"]] == [
        ("network_configuration_update.hostname", 22),
        ("network_configuration_update.hosts.0", 22),
    ]


async def test_an_unknown_field_is_refused_under_its_own_name(admin: Client) -> None:
    told = await admin.call("network.configuration.update", {"domian": "lab.example"})
    assert [field for field, _, _ in told["extra"]] == ["network_configuration_update.domian"]


async def test_the_virtual_address_is_set_changed_and_deleted(admin: Client) -> None:
    assert await admin.call("network.vip.config") is None
    assert await admin.call("network.vip.update", VIP) == VIP
    assert await admin.call("network.vip.update", {"vhid": 8}) == VIP | {"vhid": 8}
    assert await admin.call("network.vip.config") == VIP | {"vhid": 8}
    assert await admin.call("network.vip.delete") is None
    assert await admin.call("network.vip.config") is None


@pytest.mark.parametrize("vhid", [0, 300])
async def test_a_vhid_out_of_range_is_refused_and_changes_nothing(admin: Client, vhid: int) -> None:
    told = await admin.call("network.vip.update", VIP | {"vhid": vhid})
    assert [field for field, _, _ in told["extra"]] == ["network_vip_update.vhid"]
    assert await admin.call("network.vip.config") is None


@pytest.mark.parametrize(
    ("role", "reads"),
    [("NETWORK_GENERAL_READ", "network.configuration.config"), ("NETWORK_INTERFACE_READ", "network.vip.config")],
)
async def test_who_may_only_read_may_not_write(api: Dispatcher, role: str, reads: str) -> None:
    reader = Client(api, role)
    assert "error" not in (await reader.call(reads) or {})
    for method in ("network.configuration.update", "network.vip.update", "network.vip.delete"):
        assert (await reader.call(method, *([{}] if method.endswith("update") else [])))["errname"] == "EACCES"


# The effects


async def test_a_controller_that_nobody_has_configured_keeps_what_it_came_with() -> None:
    view = MemoryView()
    for effect in effects.EFFECTS:
        await effect.reconcile(view)
    assert view.kept.kept == {"route4": None, "route6": None, "addresses": {}}
    assert view.told.vips == []


@pytest.mark.parametrize(("node", "hostname"), [("A", "left"), ("B", "right")])
async def test_each_controller_gets_its_own_name_and_the_rest_in_common(node: str, hostname: str) -> None:
    view = MemoryView("A" if node == "A" else "B")
    view.set(configuration.NOUN, CONFIGURED)
    for effect in effects.EFFECTS:
        await effect.reconcile(view)
    assert view.kept.kept == {
        "hostname": hostname,
        "nameservers": ["10.0.0.53"],
        "search": ["lab.example", "example"],
        "hosts": (hostname, "lab.example", ["10.0.0.3 printer"]),
        "route4": "10.0.0.1",
        "route6": None,
        "addresses": {},
    }


async def test_carpd_is_told_the_address_and_told_when_there_is_none() -> None:
    view = MemoryView()
    address = Vip(vhid=7, address="10.0.0.9", prefix=24, interface="lan0")
    view.set(vip.NOUN, vip.VirtualAddress(vip=address))
    await effects.announce_vips(view)
    assert view.told.vips == [address]
    view.set(vip.NOUN, vip.VirtualAddress())
    await effects.announce_vips(view)
    assert view.told.vips == []


def test_every_effect_watches_the_noun_that_it_reads() -> None:
    watched = {effect.name: effect.watches for effect in effects.EFFECTS}
    assert watched.pop("virtual addresses") == (vip.NOUN.name, interface.NOUN.name)
    assert watched.pop("addresses") == (interface.NOUN.name,)
    assert {watched.pop(f"IPv{family} default route") for family in (4, 6)} == {
        (configuration.NOUN.name, interface.NOUN.name)
    }
    assert set(watched.values()) == {(configuration.NOUN.name,)}
