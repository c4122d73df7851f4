"""What no frame can do to a group of our own pair, and what holds whatever it is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middlewared.protocol.carp_messages import (
    Condition,
    Contended,
    DropVip,
    Grant,
    Message,
    Packet,
    RenewVip,
    Revoke,
    SendAdvert,
    Sighted,
    Stalled,
    TakeVip,
    Tick,
    Withdraw,
)
from middlewared.protocol.carp_packet import FAREWELL, Secret
from middlewared.protocol.carp_table import State
from tests.protocol.carp_groups import GROUP, PEER, advert, backup, master, only, paired


def test_forged_altered_and_replayed_frames_are_counted_by_reason_and_change_nothing() -> None:
    machine = backup()
    good = advert(3, 1.0)
    machine.receive(good, 1.0)
    before = (machine.state, machine.deadline(), machine.heard_at)
    wrong_key = Secret(vhid=7, key=b"guess", addresses=("192.0.2.10",))
    for packet in (
        good,
        advert(9, 2.0, secret=wrong_key),
        Packet(data=good.data, ttl=254, source=PEER),
        Packet(data=good.data[:20], ttl=255, source=PEER),
        advert(2, 2.0),
    ):
        for _ in range(2):
            actions = machine.receive(packet, 1.1)
            assert only(Sighted, actions) == list(actions)
    assert (machine.state, machine.deadline(), machine.heard_at) == before
    assert machine.status().rejected_by == {
        "counter does not rise": 4,
        "bad digest": 2,
        "TTL or hop limit is not 255": 2,
        "truncated": 2,
    }
    assert machine.status().rejected == 10


def test_an_advert_of_another_key_is_somebody_else_with_our_vhid() -> None:
    wrong_key = Secret(vhid=7, key=b"guess", addresses=("192.0.2.10",))
    assert backup().receive(advert(9, 2.0, secret=wrong_key), 1.1) == (Sighted(PEER, "CARP"),)
    flooded = backup()
    told = [flooded.receive(advert(9, 2.0, secret=wrong_key), 1.0 + n / 1000) for n in range(200)]
    assert [action.times for actions in told for action in only(Sighted, actions)] == [1, 102]
    vrrp = bytes((0x31, 7, 100, 9, 0, 100, 0, 0)) + bytes(36)
    assert backup().receive(Packet(data=vrrp, ttl=255, source=PEER), 1.1) == (Sighted(PEER, "VRRP"),)


@given(st.binary(max_size=60), st.integers(0, 255))
def test_no_bytes_without_the_key_move_a_master_or_a_backup(data: bytes, ttl: int) -> None:
    for machine in (master(), backup()):
        before = machine.state
        actions = machine.receive(Packet(data=data, ttl=ttl, source=PEER), 0.1)
        assert only(Sighted, actions) == list(actions)
        assert machine.state is before


messages = st.one_of(
    st.builds(Grant, term=st.integers(1, 4)),
    st.builds(Revoke, term=st.integers(1, 4), why=st.just("standby")),
    st.builds(Withdraw, why=st.just("fenced is gone")),
    st.builds(Stalled, gap_s=st.just(2.0)),
    st.builds(advert, st.integers(1, 4), st.floats(0, 50)),
    st.builds(advert, st.integers(1, 4), st.floats(0, 50), advbase=st.just(255), advskew=st.just(255)),
    st.builds(Contended, mac=st.just("02:00:00:00:00:09"), how=st.just("an ARP reply")),
    st.builds(Condition, node=st.just("A"), demoted=st.booleans(), refused=st.booleans()),
    st.just(Tick()),
)


@given(st.lists(st.tuples(messages, st.floats(0.001, 1.0)), max_size=60))
def test_whatever_happens_a_paired_vip_is_held_only_by_grant_and_no_lease_is_renewed_late(
    story: list[tuple[Message, float]],
) -> None:
    machine, now, held, extended_at, counters = paired(), 0.0, False, 0.0, [0]
    granted_since_init = False
    for message, wait in story:
        now += wait
        before = machine.state
        granted_since_init |= isinstance(message, Grant)
        for action in machine.receive(message, now):
            if isinstance(action, TakeVip):
                assert granted_since_init
                held, extended_at = True, now
            elif isinstance(action, RenewVip):
                assert held
                assert now - extended_at <= GROUP.stall_s
                extended_at = now
            elif isinstance(action, DropVip):
                held = False
            elif isinstance(action, SendAdvert):
                # Whoever is no longer master says one thing more: that it leaves.
                assert machine.state is State.MASTER or (before is State.MASTER and action.data[5] == FAREWELL)
                counters.append(int.from_bytes(action.data[8:16]))
        assert held == (machine.state is State.MASTER)
        if machine.state is State.MASTER and before is not State.MASTER:
            assert isinstance(message, Grant | Tick)
        if machine.state is State.INIT and before is not State.INIT:
            granted_since_init = False
    assert counters == sorted(set(counters))
