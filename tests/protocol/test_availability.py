"""Why failover is not available: each thing that keeps the standby from taking over has its code and its sentence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from middlewared.kernel.outlook import Configured, Line, Side
from middlewared.protocol.availability import availability

A = Side(
    node="A",
    version="1",
    status="MASTER",
    voters_ok=3,
    voters=3,
    carrier=True,
    vips={"192.0.2.10": "MASTER"},
    disks=("S0", "S1"),
    pools=("1",),
)
B = Side(
    node="B",
    version="1",
    status="BACKUP",
    voters_ok=3,
    voters=3,
    carrier=True,
    vips={"192.0.2.10": "BACKUP"},
    disks=("S0", "S1"),
)
LINE = Line(paired=True, heard=True, up=True)
WANTED = Configured(disabled=False, vips=("192.0.2.10",), pools=("1",))


def codes(me: Side = A, peer: Side | None = B, line: Line = LINE, wanted: Configured = WANTED) -> list[str]:
    return [reason.code for reason in availability(me, peer, line, wanted).reasons]


def but(side: Side, **changes: Any) -> Side:
    return msgspec.structs.replace(side, **changes)


def test_a_healthy_pair_has_no_reason_on_either_side() -> None:
    assert codes() == codes(B, A) == []
    assert availability(A, B, LINE, WANTED).icon == "ENABLED"


def test_a_controller_that_was_never_paired_has_one_reason_whatever_else_is_wrong() -> None:
    found = availability(but(A, status="SINGLE", voters=0), None, Line(paired=False, heard=False, up=False), WANTED)
    assert [reason.code for reason in found.reasons] == ["NOT_PAIRED"]
    assert found.icon == "ABSENT"
    assert found.permits.edit_interfaces and not found.permits.failover


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"halted": "the logs differ"}, "LOG_HALTED"),
        ({"behind": "the log ends at seq 3"}, "CONFIG_BEHIND"),
        ({"blocked": "seq 9: unknown"}, "MISMATCH_VERSIONS"),
        ({"fault": "tank is SUSPENDED"}, "POOL_FAULT"),
        ({"lost_links": "a network is lost (eth0)"}, "NO_LINK"),
        ({"failed": "tank cannot be imported"}, "PROMOTION_FAILED"),
        ({"held": True}, "ENDED_OFTEN"),
        ({"flapping": True}, "FLAPPING"),
        ({"voters_ok": 1}, "NO_FENCED"),
        ({"voters_ok": 0, "voters": 0}, "NO_VOTERS"),
        ({"disks": ("S0",)}, "MISMATCH_DISKS"),
    ],
)
def test_what_is_wrong_with_either_controller_is_told_by_both(change: dict[str, Any], code: str) -> None:
    assert codes(but(A, **change)) == [code]
    assert codes(A, but(B, **change)) == [code]
    (reason,) = availability(A, but(B, **change), LINE, WANTED).reasons
    assert reason.node in ("B", None)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ({"heard": False, "up": False}, ["NO_PONG"]),
        ({"up": False}, ["NO_SYSTEM_READY"]),
        ({"up": False, "refused": "it has halted"}, ["PEER_REFUSES"]),
        ({"up": False, "apart": "formats 1-1"}, ["MISMATCH_VERSIONS", "NO_SYSTEM_READY"]),
        ({"both_in_sync": False}, ["NO_JOURNAL_SYNC"]),
        ({"both_in_sync": False, "up": False}, ["NO_SYSTEM_READY"]),
        ({"blocked": "seq 9: unknown"}, ["MISMATCH_VERSIONS"]),
    ],
)
def test_what_is_wrong_between_the_two(line: dict[str, Any], found: list[str]) -> None:
    assert codes(peer=None, line=msgspec.structs.replace(LINE, **line)) == found


def test_a_cut_interlink_is_told_apart_from_a_silent_peer() -> None:
    line = Line(paired=True, heard=False, up=False)
    assert codes(but(A, carrier=False), None, line) == ["NO_CARRIER_ON_HEARTBEAT", "NO_PONG"]


@pytest.mark.parametrize("state", ["MASTER", "BACKUP"])
def test_the_same_state_of_an_address_on_both_is_a_disagreement(state: str) -> None:
    vips = {"192.0.2.10": state}
    (reason,) = availability(but(A, vips=vips), but(B, vips=vips), LINE, WANTED).reasons
    assert reason.code == "DISAGREE_VIP" and reason.detail["alias"] == "DISAGREE_CARP"
    assert codes(but(A, vips=vips, changing="hands over"), but(B, vips=vips)) == ["LOC_FAILOVER_ONGOING"]


def test_an_active_controller_without_a_configured_pool_has_no_volume() -> None:
    assert codes(but(A, pools=())) == ["NO_VOLUME"]
    assert codes(B, but(A, pools=())) == ["NO_VOLUME"]


def test_different_disks_are_named_with_who_sees_them() -> None:
    (reason,) = availability(but(A, disks=("S0", "S1", "S2")), B, LINE, WANTED).reasons
    assert reason.detail == {"only": {"A": ["S2"], "B": []}} and "only A sees S2" in reason.text


def test_reasons_stand_in_the_order_in_which_to_mend_them() -> None:
    worst = but(A, halted="x", voters_ok=0)
    wanted = Configured(disabled=True)
    line = msgspec.structs.replace(LINE, both_in_sync=False)
    order = ["NO_FAILOVER", "NO_VIP", "NO_CRITICAL_INTERFACES", "LOG_HALTED", "NO_FENCED", "NO_JOURNAL_SYNC"]
    assert codes(worst, B, line, wanted) == order
    assert availability(worst, B, line, wanted).icon == "DISABLED"


def test_what_may_be_done_follows_from_who_is_active() -> None:
    active = availability(A, B, LINE, WANTED).permits
    assert active.failover and active.write_config and active.login
    assert not active.force_takeover and not active.edit_interfaces and not active.export_last_pool
    standby = availability(B, A, LINE, WANTED).permits
    assert not standby.login and not standby.write_config and not standby.force_takeover
    nobody = availability(but(B, status="BACKUP"), but(A, status="BACKUP"), LINE, WANTED).permits
    assert nobody.force_takeover and nobody.login
