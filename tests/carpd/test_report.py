"""When fenced is told what."""

from __future__ import annotations

from middlewared.carpd.peer import Peer
from middlewared.carpd.report import Reports
from middlewared.config import BootFile, Interlink
from middlewared.kernel.facts import FailoverGroup, LinkState
from middlewared.protocol import hub

BOOT = BootFile(node="A", interlink=Interlink(interface="il0", address="169.254.10.1", peer="169.254.10.2"))
QUIET = hub.CarpState(vhid=7, address="192.0.2.10", state="BACKUP", since=1.0, rivals=0, rejected=0, why="standby")


class Cables:
    """Interfaces with carrier."""

    def __init__(self, *up: str) -> None:
        self.up = set(up)

    def has_carrier(self, name: str) -> bool:
        return name in self.up


class Line:
    """The hub's end: what came, and whether it is there."""

    def __init__(self) -> None:
        self.there = True
        self.came: list[hub.ToFenced] = []
        self.cables = Cables("il0", "eth0", "eth1")
        self.reports = Reports(self.send, BOOT, "SCHED_RR 40", 1.0)
        self.reports.watch((FailoverGroup(number=1, interfaces=("eth0", "eth1")),))
        self._peer = Peer(BOOT)

    def send(self, message: hub.ToFenced) -> bool:
        if self.there:
            self.came.append(message)
        return self.there

    def state(self, now: float, advert_at: float | None = None, vip: hub.CarpState = QUIET) -> list[hub.ToFenced]:
        """One end of a turn; what was sent at it."""
        self.came.clear()
        self.reports.state(now, self.cables, self._peer, advert_at, (vip,))
        return list(self.came)


def heard(messages: list[hub.ToFenced]) -> hub.Heard:
    (found,) = [message for message in messages if isinstance(message, hub.Heard)]
    return found


def carps(messages: list[hub.ToFenced]) -> list[hub.Carp]:
    return [message for message in messages if isinstance(message, hub.Carp)]


def test_nothing_new_is_said_each_tenth_of_a_second_and_not_in_between() -> None:
    line = Line()
    assert len(line.state(1.0)) == 2
    assert line.reports.deadline() == 1.1
    assert line.state(1.05) == []
    assert [type(message) for message in line.state(1.1)] == [hub.Heard]


def test_a_link_that_goes_is_said_at_once_with_the_time_of_the_change() -> None:
    line = Line()
    line.state(1.0)
    line.cables.up.discard("il0")
    said = heard(line.state(1.01))
    assert (said.carrier, said.carrier_since, said.links_up, said.links_since) == (False, 1.01, True, 1.0)
    line.cables.up.discard("eth0")
    said = heard(line.state(1.02))
    assert (said.carrier_since, said.links_up) == (1.01, True)
    assert said.links == (LinkState(name="eth0", up=False, since=1.02), LinkState(name="eth1", up=True, since=1.0))
    line.cables.up.discard("eth1")
    said = heard(line.state(1.03))
    assert (said.links_up, said.links_since) == (False, 1.03)
    assert not line.reports.links_up


def test_an_advert_is_said_at_once_and_its_time_is_kept_when_its_group_ends() -> None:
    line = Line()
    line.state(1.0)
    assert heard(line.state(1.01, advert_at=1.005)).advert_at == 1.005
    assert heard(line.state(1.2)).advert_at == 1.005


def test_a_change_of_state_is_said_at_once() -> None:
    line = Line()
    line.state(1.0)
    master = hub.CarpState(
        vhid=7, address="192.0.2.10", state="MASTER", since=1.01, rivals=0, rejected=0, why="owner of term 5"
    )
    (said,) = carps(line.state(1.01, vip=master))
    assert said.vips == (master,)
    assert said.scheduling == "SCHED_RR 40"


def test_counts_that_a_stranger_can_drive_wait_for_the_next_tenth_of_a_second() -> None:
    line = Line()
    line.state(1.0)
    flooded = hub.CarpState(
        vhid=7, address="192.0.2.10", state="BACKUP", since=1.0, rivals=0, rejected=999, why="standby"
    )
    assert carps(line.state(1.05, vip=flooded)) == []
    assert carps(line.state(1.1, vip=flooded))[0].vips[0].rejected == 999


def test_what_could_not_be_sent_is_said_again() -> None:
    line = Line()
    line.there = False
    line.state(1.0)
    line.there = True
    assert len(line.state(1.01)) == 2


def test_a_new_connection_is_told_everything() -> None:
    line = Line()
    line.state(1.0)
    line.reports.forget()
    assert len(line.state(1.01)) == 2
