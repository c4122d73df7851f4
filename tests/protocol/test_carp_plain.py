"""Plain CARP, with routers that are not of our pair: whose advert is better is master."""

from __future__ import annotations

from middlewared.protocol.carp import CarpMachine
from middlewared.protocol.carp_election import PlainElection
from middlewared.protocol.carp_messages import (
    Announce,
    DropVip,
    Grant,
    Group,
    Packet,
    Report,
    SendAdvert,
    Start,
    TakeVip,
    Tick,
    Withdraw,
)
from middlewared.protocol.carp_packet import Frame, decode, encode
from middlewared.protocol.carp_table import State
from tests.protocol.carp_groups import PEER, SECRET, only, run

SELF = "192.0.2.1"


def plain(advskew: int = 100) -> CarpMachine:
    group = Group(vhid=7, address="192.0.2.10", key=b"cluster", advbase=1, advskew=advskew)
    machine = CarpMachine(group, PlainElection(1 + advskew / 256, 3.0, SELF, 99), 0.0)
    machine.receive(Start(), 0.0)
    assert machine.state is State.BACKUP
    return machine


def foreign(advskew: int, counter: int = 12345, advbase: int = 1) -> Packet:
    frame = Frame(vhid=7, advbase=advbase, advskew=advskew, counter=counter)
    return Packet(data=encode(frame, SECRET), ttl=255, source=PEER)


def test_in_plain_mode_silence_for_three_advbase_and_the_skew_makes_us_master() -> None:
    machine = plain()
    assert machine.deadline() == 3 + 100 / 256
    assert TakeVip(1.0) in machine.receive(Tick(), 3 + 100 / 256)


def test_in_plain_mode_a_worse_master_is_left_in_peace() -> None:
    machine = plain(advskew=0)
    for second in range(1, 10):
        machine.receive(foreign(200), second)
        assert run(machine, second, second + 0.9) == []


def test_in_plain_mode_a_better_advert_makes_a_master_backup_with_a_parting_advert() -> None:
    machine = plain()
    run(machine, 0.0, 4.0)
    actions = machine.receive(foreign(0), 4.0)
    assert [type(action) for action in actions] == [DropVip, SendAdvert, Report]
    assert machine.state is State.BACKUP


def test_in_plain_mode_a_worse_advert_is_answered_by_a_master() -> None:
    machine = plain()
    run(machine, 0.0, 4.0)
    assert [type(action) for action in machine.receive(foreign(200), 4.0)] == [SendAdvert, Announce, Report]


def test_in_plain_mode_a_master_that_bows_out_is_followed_at_once() -> None:
    machine = plain()
    assert TakeVip(1.0) in machine.receive(foreign(255, advbase=255), 0.5)


def test_in_plain_mode_an_orderly_end_drops_the_vip_and_bows_out() -> None:
    machine = plain()
    run(machine, 0.0, 4.0)
    actions = machine.receive(Withdraw(why="ended"), 4.0)
    assert isinstance(actions[0], DropVip)
    frame = decode(only(SendAdvert, actions)[0].data, 255, SECRET)
    assert isinstance(frame, Frame)
    assert (frame.advbase, frame.advskew) == (255, 255)


def test_in_plain_mode_a_grant_means_nothing() -> None:
    machine = plain()
    assert machine.receive(Grant(term=3), 0.1) == (Report("foreign routers know no terms"),)
    assert machine.state is State.BACKUP


def test_in_plain_mode_a_master_that_stood_still_listens_first() -> None:
    machine = plain()
    run(machine, 0.0, 4.0)
    assert isinstance(machine.receive(Tick(), 20.0)[0], DropVip)
    assert machine.state is State.BACKUP
    assert machine.deadline() == 20.0 + 3 + 100 / 256
