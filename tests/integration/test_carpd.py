"""Two real carpd on a LAN of namespaces; the test plays both fenced, on their real sockets. Needs root."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from middlewared.kernel.facts import Vip
from middlewared.protocol import hub
from middlewared.protocol.carp_election import counter_of, term_of
from middlewared.protocol.carp_packet import Frame, Secret, checksum, encode
from middlewared.protocol.ethernet import advert
from middlewared.protocol.keys import carp_key
from tests.integration.carpd_pair import KEY, MAC, SETTINGS, STANDBY, VIP, VIP_6, Controller, Pair, owner
from tests.integration.conftest import Lan, Watcher, holds_for, until

LEASE_LAPSED_S = 1.3

pytestmark = pytest.mark.root


@pytest.fixture
def pair(lan: Lan, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(lan, tmp_path)
    try:
        made.begin()
        yield made
    finally:
        made.a.fenced.end()
        made.b.fenced.end()


def from_controller_b(term: int, *, key: bytes = KEY, advskew: int = 26, now: float | None = None) -> bytes:
    """An advert frame as B's carpd would send it."""
    counter = counter_of(term, time.clock_gettime(time.CLOCK_BOOTTIME) if now is None else now)
    secret = Secret(vhid=7, key=carp_key(key), addresses=(VIP,))
    return advert(7, "192.0.2.2", encode(Frame(vhid=7, advbase=0, advskew=advskew, counter=counter), secret))


def test_the_owner_answers_with_the_virtual_mac_and_serves_connections(pair: Pair, lan: Lan, watcher: Watcher) -> None:
    assert watcher.ping(VIP, wait_s=1) == MAC
    assert f"{VIP} dev eth0 lladdr {MAC}" in lan.client.ip("neigh")
    with lan.a.do(lambda: socket.create_server((VIP, 0))) as server:
        port = server.getsockname()[1]
        with lan.client.do(lambda: socket.create_connection((VIP, port), timeout=3)) as client:
            accepted, _ = server.accept()
            accepted.sendall(b"hello")
            assert client.recv(5) == b"hello"
            accepted.close()
    assert not pair.b.has_vip()
    assert "state DOWN" in lan.b.ip("link", "show", "carp7")


def test_the_owner_advertises_its_term_ten_times_a_second_from_the_virtual_mac(pair: Pair, watcher: Watcher) -> None:
    seen = watcher.adverts(1.0)
    assert 7 <= len(seen) <= 12
    assert {frame[6:12].hex(":") for frame in seen} == {MAC}
    counters = [int.from_bytes(frame[42:50]) for frame in seen]
    assert {term_of(counter) for counter in counters} == {5}
    assert counters == sorted(set(counters))


def test_each_hears_the_other_on_lan_and_interlink(pair: Pair, lan: Lan) -> None:
    heard = pair.b.fenced.heard
    assert heard is not None
    assert heard.peer is not None
    assert (heard.peer.owner, heard.peer.term, heard.peer.links_up) == (True, 5, True)
    until(lambda: bool(pair.b.fenced.heard and pair.b.fenced.heard.advert_at), 2, "B heard an advert")
    until(lambda: bool(pair.a.fenced.heard and pair.a.fenced.heard.peer), 2, "A hears B")
    holds_for(lambda: is_fresh(pair.b), 1, "the signs that B reports are fresh")
    lan.a.ip("link", "set", "il0", "down")
    until(lambda: bool(pair.b.fenced.heard and not pair.b.fenced.heard.carrier), 1, "B sees the interlink's carrier go")
    lan.plug("a", False)
    until(lambda: bool(pair.a.fenced.heard and not pair.a.fenced.heard.links_up), 1, "A sees its VIP's link go")
    assert pair.a.is_in("MASTER")


def is_fresh(controller: Controller) -> bool:
    heard = controller.fenced.heard
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert heard is not None
    # Thrice the dead times: this machine is shared, and carpd is not asked to be faster than it.
    return now - (heard.interlink_at or 0) < 0.45 and now - (heard.advert_at or 0) < 0.9


def test_the_vip_of_a_killed_carpd_lapses_with_its_lease(pair: Pair) -> None:
    pair.a.carpd.kill()
    lapsed = until(lambda: not pair.a.has_vip(), 3, "the lease lapses")
    assert lapsed < LEASE_LAPSED_S


def test_a_killed_carpd_that_is_started_again_keeps_the_vip(pair: Pair, watcher: Watcher) -> None:
    for _ in range(3):
        hellos = pair.a.fenced.hellos
        pair.a.carpd.kill()
        pair.a.carpd.wait(5)
        pair.a.start()
        holds_for(pair.a.has_vip, 1.5, "A has the VIP")
        assert pair.a.fenced.hellos == hellos + 1
    assert watcher.ping(VIP, wait_s=1) == MAC


def test_what_a_killed_carpd_left_is_removed_when_this_controller_is_no_longer_the_owner(pair: Pair) -> None:
    pair.a.carpd.kill()
    pair.a.carpd.wait(5)
    pair.a.fenced.standing = STANDBY
    pair.a.start()
    assert until(lambda: not pair.a.has_vip(), 3, "the VIP is gone") < 1
    until(lambda: "state DOWN" in pair.a.host.ip("link", "show", "carp7"), 1, "the macvlan is down")


def test_a_frozen_carpd_loses_the_vip_and_believes_nothing_that_was_said_before_it_thawed(pair: Pair) -> None:
    hellos = pair.a.fenced.hellos
    pair.a.carpd.send_signal(signal.SIGSTOP)
    assert until(lambda: not pair.a.has_vip(), 3, "the lease lapses") < LEASE_LAPSED_S
    pair.a.fenced.say(owner(5))  # waits in the socket of the frozen process
    pair.a.fenced.standing = msgspec.structs.replace(STANDBY, term=6)
    pair.a.carpd.send_signal(signal.SIGCONT)
    until(lambda: pair.a.fenced.hellos == hellos + 1, 2, "carpd asks anew")
    holds_for(lambda: not pair.a.has_vip(), 1, "A has no VIP")
    assert pair.a.is_in("BACKUP")


def test_a_thawed_carpd_that_is_still_the_owner_takes_the_vip_again(pair: Pair) -> None:
    pair.a.carpd.send_signal(signal.SIGSTOP)
    until(lambda: not pair.a.has_vip(), 3, "the lease lapses")
    pair.a.carpd.send_signal(signal.SIGCONT)
    assert until(pair.a.has_vip, 3, "A has the VIP again") > 0.2


def test_a_higher_term_takes_the_vip_and_the_old_owner_drops_it_at_once(pair: Pair, watcher: Watcher) -> None:
    pair.b.fenced.say(owner(6))
    until(pair.b.has_vip, 1, "B has the VIP")
    assert until(lambda: not pair.a.has_vip(), 1, "A dropped the VIP") < 0.5
    until(lambda: pair.a.is_in("BACKUP"), 1, "A says so")
    state = pair.a.fenced.state()
    assert state is not None
    assert "192.0.2.2" in state.why
    assert watcher.ping(VIP, wait_s=1) == MAC


def test_forged_replayed_and_altered_adverts_change_nothing_and_are_counted(pair: Pair, watcher: Watcher) -> None:
    recorded = watcher.adverts(0.5)[0]
    altered = bytearray(recorded)
    altered[36] = 0  # advskew, which the HMAC does not cover
    altered[40:42] = b"\0\0"
    altered[40:42] = checksum(bytes(altered[34:70])).to_bytes(2)
    near = bytearray(from_controller_b(9))
    near[22] = 254  # TTL
    near[24:26] = b"\0\0"
    near[24:26] = checksum(bytes(near[14:34])).to_bytes(2)
    for _ in range(20):
        for frame in (from_controller_b(9, key=b"guess"), bytes(altered), recorded, bytes(near)):
            watcher.send(frame)
    # The kernel of each controller drops what claims to come from its own address, so each sees two of the four.
    until(lambda: rejected(pair.a) >= 40 and rejected(pair.b) >= 40, 2, "both counted them")
    assert pair.a.is_in("MASTER")
    assert pair.b.is_in("BACKUP")
    assert pair.a.has_vip()


def rejected(controller: Controller) -> int:
    state = controller.fenced.state()
    return state.rejected if state else 0


def test_a_rival_of_an_older_term_is_counted_answered_and_changes_nothing(pair: Pair, watcher: Watcher) -> None:
    watcher.send(from_controller_b(4, advskew=0))
    answers = [frame for frame in watcher.frames(0.3) if frame[12:14] == b"\x08\x06" and frame[6:12].hex(":") == MAC]
    assert answers
    until(lambda: bool(pair.a.fenced.carp and pair.a.fenced.carp.vips[0].rivals == 1), 1, "A counted the rival")
    assert pair.a.is_in("MASTER")


def test_without_fenced_for_a_second_the_vip_is_dropped_until_it_is_back(pair: Pair) -> None:
    pair.a.fenced.vanish()
    holds_for(pair.a.has_vip, 0.7, "A has the VIP: fenced may be restarting")
    until(lambda: not pair.a.has_vip(), 1, "A dropped the VIP")
    pair.a.fenced.open()
    until(pair.a.has_vip, 1, "A has the VIP again")


def test_a_fenced_that_restarts_and_does_not_know_its_role_yet_costs_no_vip(pair: Pair) -> None:
    pair.a.fenced.vanish()
    pair.a.fenced.standing = msgspec.structs.replace(STANDBY, role="WAITING", term=0)
    pair.a.fenced.open()
    hellos = pair.a.fenced.hellos
    until(lambda: pair.a.fenced.hellos > hellos, 1, "carpd is connected again")
    pair.a.fenced.say(owner(6))
    holds_for(pair.a.has_vip, 1.5, "A has the VIP")


def test_a_macvlan_that_somebody_deleted_is_made_anew(pair: Pair, watcher: Watcher) -> None:
    pair.a.host.ip("link", "del", "carp7")
    until(pair.a.has_vip, 2, "A has the VIP again")
    until(lambda: watcher.ping(VIP) == MAC, 2, "the VIP answers")
    until(lambda: pair.a.fenced.state() is not None and "gone" not in state_of(pair.a).why, 2, "status is clean again")


def state_of(controller: Controller) -> hub.CarpState:
    state = controller.fenced.state()
    assert state is not None
    return state


def test_an_orderly_end_drops_the_vip_and_settings_without_it_remove_the_macvlan(pair: Pair) -> None:
    pair.b.fenced.settings = msgspec.structs.replace(SETTINGS, vips=())
    pair.b.fenced.vanish()
    pair.b.fenced.open()
    until(lambda: "carp7" not in pair.b.host.ip("link"), 2, "B's macvlan is gone")
    pair.a.carpd.terminate()
    assert pair.a.carpd.wait(5) == 0
    assert not pair.a.has_vip()


def test_an_ipv6_vip_is_taken_answered_and_lapses(lan: Lan, watcher: Watcher, tmp_path: Path) -> None:
    made = Pair(lan, tmp_path)
    try:
        vips = (Vip(vhid=7, address=VIP_6, prefix=64, interface="eth0"),)
        for controller in (made.a, made.b):
            controller.fenced.settings = msgspec.structs.replace(SETTINGS, vips=vips)
        made.begin()
        assert watcher.ping(VIP_6, wait_s=1) == MAC
        until(lambda: bool(made.b.fenced.heard and made.b.fenced.heard.advert_at), 2, "B heard an advert")
        made.a.carpd.kill()
        assert until(lambda: not lan.a.has(VIP_6), 3, "the lease lapses") < LEASE_LAPSED_S
    finally:
        made.a.fenced.end()
        made.b.fenced.end()
