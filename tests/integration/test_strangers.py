"""Somebody on the lab's LAN takes what is the pair's: it is seen, named, and moves nothing. Needs root."""

from __future__ import annotations

import sys

import pytest

from middlewared.lab.driver import Pair
from middlewared.lab.layout import VHID, VIP
from tests.integration.conftest import holds_for

pytestmark = [pytest.mark.root, pytest.mark.full]

SEEN_S, OVER_S = 6.0, 14.0
FOREIGN_ADVERTS = """
import socket, sys, time
from middlewared.protocol.carp_packet import Frame, Secret, encode
from middlewared.protocol.ethernet import advert
vhid, times, pause_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
wire.bind(("eth0", 0))
for counter in range(2**60, 2**60 + times):
    secret = Secret(vhid=vhid, key=b"theirs", addresses=("192.0.2.77",))
    data = encode(Frame(vhid=vhid, advbase=1, advskew=0, counter=counter), secret)
    wire.send(advert(vhid, "192.0.2.99", data))
    time.sleep(pause_s)
"""


def advertise(pair: Pair, vhid: int, *, times: int, pause_s: float) -> None:
    """Somebody on the LAN advertises that VHID with a key of its own."""
    arguments = (f"{vhid}", f"{times}", f"{pause_s}")
    pair.run("client", sys.executable, "-c", FOREIGN_ADVERTS, *arguments, timeout_s=times * pause_s + SEEN_S)


def alerts(pair: Pair, klass: str) -> list[str]:
    told = pair.call("A", "alert.list")
    assert isinstance(told, list)
    return [alert["formatted"] for alert in told if alert["klass"] == klass]


def standing(pair: Pair) -> object:
    return pair.role("A"), pair.role("B"), pair.sync("A").term


def test_f25_a_host_with_the_virtual_address_is_an_alert_with_its_mac_until_it_gives_it_back(pair: Pair) -> None:
    before = standing(pair)
    mac = pair.run("client", "cat", "/sys/class/net/eth0/address").strip()
    pair.run("client", "ip", "addr", "add", f"{VIP}/32", "dev", "eth0")
    try:
        pair.wait_until("the conflict is told", lambda: bool(alerts(pair, "VipConflict")), SEEN_S)
        assert mac in alerts(pair, "VipConflict")[0]
        holds_for(lambda: standing(pair) == before, 1.0, "nothing moves")
    finally:
        pair.run("client", "ip", "addr", "del", f"{VIP}/32", "dev", "eth0")
    pair.wait_until("it is over", lambda: not alerts(pair, "VipConflict"), OVER_S)
    assert standing(pair) == before


def test_a_router_with_our_vhid_is_an_alert_with_its_address_until_it_is_gone(pair: Pair) -> None:
    before = standing(pair)
    advertise(pair, VHID, times=30, pause_s=0.1)
    assert "192.0.2.99" in alerts(pair, "DuplicateVhid")[0]
    assert standing(pair) == before
    pair.wait_until("it is over", lambda: not alerts(pair, "DuplicateVhid"), OVER_S)


def test_a_router_with_a_number_that_is_free_is_told_when_it_stays(pair: Pair) -> None:
    before = standing(pair)
    advertise(pair, VHID + 1, times=15, pause_s=1.0)
    (text,) = [text for text in alerts(pair, "ForeignVhid") if "eth0 of controller A" in text]
    assert f"VHID {VHID + 1} " in text
    assert "192.0.2.99" in text
    assert (alerts(pair, "DuplicateVhid"), standing(pair)) == ([], before)
    pair.wait_until("it is over", lambda: not alerts(pair, "ForeignVhid"), OVER_S)
