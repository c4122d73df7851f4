"""Groups of carp in the states that tests begin with, and what they are told and do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from middlewared.protocol.carp import CarpMachine
from middlewared.protocol.carp_election import PairedElection, counter_of
from middlewared.protocol.carp_messages import Action, Grant, Group, Packet, Revoke, SendAdvert, Tick
from middlewared.protocol.carp_packet import Frame, Secret, decode, encode
from middlewared.protocol.carp_table import State

GROUP = Group(vhid=7, address="192.0.2.10", key=b"cluster", advbase=0, advskew=26)
SECRET = Secret(vhid=7, key=b"cluster", addresses=("192.0.2.10",))
DEAD_S = 3 * 26 / 256
PEER = "192.0.2.2"
A = TypeVar("A")


def paired() -> CarpMachine:
    return CarpMachine(GROUP, PairedElection(), 0.0)


def backup(term: int = 1) -> CarpMachine:
    machine = paired()
    machine.receive(Revoke(term=term, why="standby"), 0.0)
    return machine


def master(term: int = 5, now: float = 0.0) -> CarpMachine:
    machine = paired()
    machine.receive(Grant(term=term), now)
    assert machine.state is State.MASTER
    return machine


def advert(term: int, at: float, *, secret: Secret = SECRET, advbase: int = 0, advskew: int = 26) -> Packet:
    frame = Frame(vhid=7, advbase=advbase, advskew=advskew, counter=counter_of(term, at))
    return Packet(data=encode(frame, secret), ttl=255, source=PEER)


def only(kind: type[A], actions: Sequence[object]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def run(machine: CarpMachine, now: float, until: float) -> list[tuple[float, Action]]:
    """Tick at each deadline, as the shell does."""
    done: list[tuple[float, Action]] = []
    while (deadline := machine.deadline()) is not None and deadline <= until:
        now = max(now, deadline)
        done += [(now, action) for action in machine.receive(Tick(), now)]
    return done


def advskew_of(sent: SendAdvert) -> int:
    frame = decode(sent.data, 255, SECRET)
    assert isinstance(frame, Frame)
    return frame.advskew
