"""What force_master gives up: found on both controllers, compared, asked for again, discarded. Needs root."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from middlewared.client import Client
from middlewared.kernel.event import Record
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from tests.integration.conftest import domains, leave_b_behind, quarantined, records, write_at_vip

pytestmark = pytest.mark.root

WITHIN_S = 10.0


def call(pair: Pair, node: Node, method: str, *params: object) -> Any:
    return pair.call(node, f"failover.quarantine.{method}", *params)


def reapply(pair: Pair, id_: str) -> dict[str, Any]:
    """The job's result, as an administrator at the virtual IP gets it."""

    async def job() -> dict[str, Any]:
        up = pair.result
        async with Client(up.vip_url, username=up.user, password=up.password, patience_s=5.0) as client:
            result = await client.call_job("failover.quarantine.reapply", id_)
            assert isinstance(result, dict)
            return result

    return asyncio.run(job())


def tail_of_a(pair: Pair, node: Node) -> dict[str, Any]:
    """The newest tail that A cut, as `node` lists it; what is not noted yet comes last."""
    return dict(([{"noted": False}] + [tail for tail in call(pair, node, "list") if tail["node"] == "A"])[-1])


def alerts(pair: Pair, node: Node) -> list[tuple[str, str]]:
    told = pair.call(node, "alert.list")
    assert isinstance(told, list)
    return [(alert["klass"], alert["node"]) for alert in told]


def of_kind(log: list[Record], kind: str) -> Record:
    return next(record for record in reversed(log) if record.kind == kind)


def test_what_was_given_up_is_known_to_both_compared_brought_back_and_discarded(pair: Pair) -> None:
    before = quarantined(pair, "A")
    write_at_vip(pair, domain="both.test", nameserver1="192.0.2.53")
    leave_b_behind(pair, "brought-back.test")
    pair.call("B", "failover.force_master")
    pair.wait_until("B writes", lambda: write_at_vip(pair, domain="forced-meanwhile.test")["seq"] > 0, WITHIN_S)
    pair.power_on("A")
    pair.wait_until("both in sync", pair.is_whole, WITHIN_S)

    pair.wait_until("the tail is noted", lambda: tail_of_a(pair, "B")["noted"], WITHIN_S)
    (lost,) = quarantined(pair, "A")[len(before) :]
    assert domains([lost]) == ["brought-back.test"]
    listed = tail_of_a(pair, "B")
    assert (listed["node"], listed["state"], listed["count"]) == ("A", "open", 1)
    pair.wait_until("A knows it too", lambda: tail_of_a(pair, "A") == listed, WITHIN_S)
    about_a = ("QuarantineNotEmpty", "A")
    pair.wait_until("A tells of it", lambda: about_a in alerts(pair, "A"), WITHIN_S)
    pair.wait_until("B tells of it", lambda: about_a in alerts(pair, "B"), WITHIN_S)

    told = call(pair, "B", "diff", listed["id"])
    assert [(row["field"], row["quarantined"], row["now"], row["conflict"]) for row in told["rows"]] == [
        ("domain", "brought-back.test", "forced-meanwhile.test", True)
    ]
    assert call(pair, "A", "diff", listed["id"]) == told

    result = reapply(pair, listed["id"])
    assert (result["applied"], result["refused"]) == (1, 0)
    pair.wait_until("both in sync", pair.is_whole, WITHIN_S)
    for node in NODES:
        config = pair.call(node, "network.configuration.config")
        assert isinstance(config, dict)
        assert config["domain"] == "brought-back.test"
    again = next(r for r in reversed(records(pair, "B")) if domains([r]) == ["brought-back.test"])
    assert again.actor.partition("@")[0] == pair.result.user
    pair.wait_until("nobody is asked any more", lambda: pair.sync("A").quarantine.count == len(before), WITHIN_S)
    assert reapply(pair, listed["id"]) == result

    call(pair, "B", "discard", listed["id"], "it is all back")
    pair.wait_until("A removed its file", lambda: quarantined(pair, "A") == before, WITHIN_S)
    pair.wait_until("both in sync", pair.is_whole, WITHIN_S)
    record = of_kind(records(pair, "A"), "failover.quarantine.discarded")
    assert json.loads(record.payload) == {"id": listed["id"], "reason": "it is all back"}
    assert record.actor.startswith("root@")
