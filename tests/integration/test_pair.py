"""A whole pair: one configuration on both controllers, and what the standby says. Needs root."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import msgspec
import pytest

from middlewared.client import Client
from middlewared.kernel.errors import NotActive
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.layout import VIP
from middlewared.lab.watch import Watch
from tests.integration.conftest import ask_raw, holds_for, records, until, write_at_vip

pytestmark = pytest.mark.root

NAMES: tuple[tuple[Node, str], ...] = (("A", "left"), ("B", "right"))


def test_a_write_through_the_virtual_ip_is_on_both_controllers_before_it_is_answered(pair: Pair) -> None:
    meta = write_at_vip(pair, domain="both.test")
    assert meta["durability"] == "pair"
    last = records(pair, "B")[-1]
    assert last.seq == meta["seq"]
    assert json.loads(last.payload) == {"domain": "both.test"}
    shown = [pair.run(node, "middlewared", "log", "show", "--json") for node in ("A", "B")]
    assert shown[0] == shown[1]
    assert json.loads(shown[1].splitlines()[-1])["hash"] == last.hash.hex()


def test_both_controllers_have_the_same_state_and_each_its_own_name(pair: Pair) -> None:
    write_at_vip(pair, hostname="left", hostname_b="right", domain="names.test")
    for node, name in NAMES:
        names_own = partial(_hosts_names, pair, node, f"{name}.names.test")
        pair.wait_until(f"{node} names itself", names_own, within_s=3)
        assert pair.run(node, "hostname").strip() == name
    a, b = pair.sync("A"), pair.sync("B")
    assert (a.digest_at_seq, a.state_digest) == (b.digest_at_seq, b.state_digest)


def _hosts_names(pair: Pair, node: Node, name: str) -> bool:
    return name in pair.run(node, "cat", "/etc/hosts").split()


def test_a_write_on_the_standby_is_refused_and_says_where_the_active_controller_is(pair: Pair) -> None:
    before = records(pair, "B")
    with pytest.raises(NotActive):
        pair.call("B", "network.configuration.update", {"domain": "wrong.test"})
    answer = ask_raw(pair, "B", "network.configuration.update", [{"domain": "wrong.test"}])
    error = answer["error"]
    assert error["code"] == -32001
    assert (error["data"]["error"], error["data"]["errname"]) == (30, "EROFS")
    assert error["data"]["extra"] == {"active_urls": [f"http://{VIP}"], "node": "B"}
    assert records(pair, "B") == before


def test_a_login_at_the_standby_is_redirected_to_the_active_controller(pair: Pair) -> None:
    login = {"mechanism": "PASSWORD_PLAIN", "username": pair.result.user, "password": pair.result.password}
    answer = ask_raw(pair, "B", "auth.login_ex", [login], url=pair.result.nodes["B"]["url"])
    assert answer["result"] == {"response_type": "REDIRECT", "urls": [f"http://{VIP}"]}


def test_the_standby_says_that_it_could_take_over(pair: Pair) -> None:
    assert [pair.call(node, "failover.disabled.reasons") for node in ("A", "B")] == [[], []]
    assert [pair.call(node, "failover.status") for node in ("A", "B")] == ["MASTER", "BACKUP"]


def test_within_a_second_both_say_that_the_interlink_is_cut_and_that_it_carries_again(pair: Pair) -> None:
    cut = {"NO_CARRIER_ON_HEARTBEAT", "NO_PONG"}
    pair.cut("interlink")
    assert until(lambda: cut <= codes(pair, "A") and cut <= codes(pair, "B"), 3, "both say it") < 1.0
    (silent,) = [reason for reason in details(pair, "A") if reason["code"] == "NO_PONG"]
    assert silent["node"] == "B" and silent["since"]["$date"] > 0
    pair.heal("interlink")
    assert until(lambda: not cut & (codes(pair, "A") | codes(pair, "B")), 3, "neither says it") < 1.0
    pair.wait_until("both in sync", lambda: pair.is_whole("A"), within_s=5)


def codes(pair: Pair, node: Node) -> set[str]:
    return set(msgspec.convert(pair.call(node, "failover.disabled.reasons"), list[str]))


def details(pair: Pair, node: Node) -> list[dict[str, Any]]:
    return msgspec.convert(pair.call(node, "failover.disabled.details"), list[dict[str, Any]])


def test_both_say_by_which_rule_they_are_what_they_are_and_what_a_fault_would_do(pair: Pair) -> None:
    explained = [msgspec.convert(pair.call(node, "failover.explain"), dict[str, Any]) for node in ("A", "B")]
    assert [(one["rule"], one["verdict"]) for one in explained] == [("OWNS", "OWN"), ("PEER_OWNS", "STAND_BY")]
    assert all(one["inputs_age_s"] < 1.0 for one in explained)
    asked: tuple[tuple[Node, str, Node], ...]
    asked = (("A", "i_die", "B"), ("B", "peer_dies", "B"), ("A", "peer_dies", "A"), ("B", "interlink", "A"))
    for node, fault, after in asked:
        forecast = msgspec.convert(pair.call(node, "failover.dry_run", fault), dict[str, Any])
        assert (forecast["peer_known"], forecast["after"]) == (True, after), forecast
    assert pair.role("A") == "MASTER"


def test_a_cut_interlink_moves_nothing_and_writes_go_on_at_level_single(pair: Pair) -> None:
    async def write() -> None:
        client = Client(pair.result.vip_url, username=pair.result.user, password=pair.result.password, durability=True)
        async with client:
            await client.request("network.configuration.update", [{"domain": "whole.test"}])
            pair.cut("interlink")
            took_s = []
            for number in range(6):
                start = asyncio.get_running_loop().time()
                reply = await client.request("network.configuration.update", [{"domain": f"cut{number}.test"}])
                took_s.append(asyncio.get_running_loop().time() - start)
                assert reply.meta is not None
                assert msgspec.to_builtins(reply.meta)["durability"] == "single"
            # The first waits until the silence is long enough; 0.3 s by design, the rest is this machine.
            assert took_s[0] < 0.5
            assert max(took_s[1:]) < 0.15

    with Watch(pair) as watch:
        watch.wait_for_owner("A")
        asyncio.run(write())
        holds_for(lambda: pair.vip_owner() == "A", 1.5, "A has the virtual IP, alone")
        assert watch.replies("B") == 0
    assert pair.role("B") == "BACKUP"
    pair.heal("interlink")
    pair.wait_until("both in sync", lambda: pair.is_whole("A"), within_s=5)
    assert write_at_vip(pair, domain="healed.test")["durability"] == "pair"
