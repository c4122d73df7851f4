"""A controller that must not run on ends itself, says so when it is back, and does not do it for ever. Needs root."""

from __future__ import annotations

import socket

import pytest

from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.protocol import hub
from tests.integration.conftest import holds_for

pytestmark = [pytest.mark.root, pytest.mark.full]

BOOT_S = 15.0


def end(pair: Pair, node: Node, why: str) -> None:
    """As middlewared asks for it when a pool cannot be given up; returns when the controller is dead."""
    before = pair.pid(node, "fenced")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as fenced:
        fenced.connect(str(pair.layout.run(node) / "fenced.sock"))
        fenced.send(hub.encode(hub.Hello(who="middlewared", pid=1)))
        fenced.send(hub.encode(hub.End(why=why)))
        pair.wait_until(f"{node} is dead", lambda: pair.pid(node, "fenced") != before, 2.0)


def alerts(pair: Pair, node: Node) -> dict[str, str]:
    listed = pair.call(node, "alert.list")
    assert isinstance(listed, list)
    return {alert["klass"]: alert["formatted"] for alert in listed}


def test_it_says_why_after_the_boot_and_the_third_time_it_claims_no_more_until_it_is_forced(pair: Pair) -> None:
    end(pair, "B", "tank cannot be exported")
    pair.wait_until("the pair is whole", lambda: pair.is_whole("A"), BOOT_S)
    assert "tank cannot be exported" in alerts(pair, "B")["ControllerEnded"]
    assert "EndedOften" not in alerts(pair, "B")
    for _ in range(2):
        end(pair, "B", "tank cannot be exported")
        pair.wait_until("the pair is whole", lambda: pair.is_whole("A"), BOOT_S)
    assert "EndedOften" in alerts(pair, "B")
    pair.power_off("A")
    holds_for(lambda: pair.role("B") == "BACKUP", 3.0, "B stands by although A is gone")
    pair.call("B", "failover.force_master", timeout_s=20.0)
    pair.wait_until("B is active", lambda: pair.role("B") == "MASTER", BOOT_S)
    pair.wait_until("it is pardoned", lambda: "EndedOften" not in alerts(pair, "B"), 3.0)
