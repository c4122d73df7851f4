"""The addresses of interfaces, in a network namespace of the test. Needs root."""

from __future__ import annotations

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.shell.interfaces import Interfaces
from middlewared.shell.rtnl import Rtnl
from tests.shell.namespace import inside, ip


def lan() -> Interfaces:
    """Two interfaces that nobody configured, and one VIP's."""
    for number in (0, 1):
        ip("link", "add", f"lan{number}", "type", "veth", "peer", "name", f"far{number}")
        ip("link", "set", f"far{number}", "up")
    ip("link", "add", "carp7", "link", "lan0", "address", "00:00:5e:00:01:07", "type", "macvlan", "mode", "bridge")
    return Interfaces(Rtnl(), interlink="lan1")


def on(interface: str) -> set[str]:
    lines = ip("-o", "addr", "show", "dev", interface).splitlines()
    return {line.split()[3] for line in lines if "scope link" not in line}


def test_addresses_of_both_families_are_set_and_the_interface_is_up() -> None:
    async def work() -> None:
        interfaces = lan()
        await interfaces.set_addresses({"lan0": [("10.0.0.5", 24), ("fd00::5", 64)]})
        assert on("lan0") == {"10.0.0.5/24", "fd00::5/64"}
        assert "UP" in ip("link", "show", "lan0")
        await interfaces.set_addresses({"lan0": [("10.0.0.5", 24), ("fd00::5", 64)]})
        assert on("lan0") == {"10.0.0.5/24", "fd00::5/64"}

    inside(work)


def test_what_is_not_named_any_more_goes_and_what_others_set_stays() -> None:
    async def work() -> None:
        interfaces = lan()
        ip("addr", "add", "192.0.2.9/24", "dev", "lan0")
        ip("addr", "add", "fd00::9/64", "dev", "lan0", "nodad")
        await interfaces.set_addresses({"lan0": [("10.0.0.5", 24), ("fd00::5", 64)]})
        await interfaces.set_addresses({})
        assert on("lan0") == {"192.0.2.9/24", "fd00::9/64"}

    inside(work)


def test_an_address_of_others_that_is_named_becomes_ours() -> None:
    async def work() -> None:
        interfaces = lan()
        ip("addr", "add", "192.0.2.9/24", "dev", "lan0")
        ip("addr", "add", "fd00::9/64", "dev", "lan0", "nodad")
        await interfaces.set_addresses({"lan0": [("192.0.2.9", 24), ("fd00::9", 64)]})
        assert on("lan0") == {"192.0.2.9/24", "fd00::9/64"}
        await interfaces.set_addresses({"lan0": []})
        assert on("lan0") == set()

    inside(work)


def test_the_first_address_of_a_network_goes_without_the_others() -> None:
    async def work() -> None:
        interfaces = lan()
        await interfaces.set_addresses({"lan0": [("10.0.0.5", 24)]})
        await interfaces.set_addresses({"lan0": [("10.0.0.6", 24), ("10.0.0.7", 24)]})
        assert on("lan0") == {"10.0.0.6/24", "10.0.0.7/24"}

    inside(work)


def test_an_interface_that_is_not_there_is_named_and_the_others_have_their_addresses() -> None:
    async def work() -> None:
        interfaces = lan()
        with pytest.raises(PortFailed, match="there is no interface lan9"):
            await interfaces.set_addresses({"lan9": [("10.0.0.5", 24)], "lan0": [("10.0.1.5", 24)]})
        assert on("lan0") == {"10.0.1.5/24"}

    inside(work)


def test_all_interfaces_are_told_but_loopback_and_those_of_virtual_addresses() -> None:
    async def work() -> None:
        interfaces = lan()
        await interfaces.set_addresses({"lan0": [("10.0.0.5", 24)]})
        found = {link.name: link for link in await interfaces.all()}
        assert found.keys() == {"lan0", "lan1", "far0", "far1"}
        assert found["lan0"].addresses == (("10.0.0.5", 24),)
        assert (found["lan0"].carrier, found["lan1"].carrier) == (True, False)
        assert (found["lan0"].interlink, found["lan1"].interlink) == (False, True)
        assert len(found["lan0"].mac) == 17

    inside(work)
