from __future__ import annotations

from itertools import islice

from tests.campaign.schedule import Cut, Freeze, Kill, PowerOff, episodes, name


def test_the_same_seed_is_the_same_sequence_of_faults() -> None:
    assert list(islice(episodes(7), 200)) == list(islice(episodes(7), 200))
    assert list(islice(episodes(7), 200)) != list(islice(episodes(8), 200))


def test_every_kind_of_fault_comes_up() -> None:
    kinds = {name(fault) for episode in islice(episodes(1), 500) for fault in episode.faults}
    assert {"kill middlewared", "kill carpd", "kill fenced", "power off", "freeze"} < kinds
    assert {"cut lan", "cut interlink", "cut shelf", "cut lan one way", "cut shelf one way"} < kinds


def test_a_fault_is_named_by_its_kind() -> None:
    assert name(Kill("A", "carpd")) == "kill carpd"
    assert name(PowerOff("B")) == "power off"
    assert name(Freeze("B")) == "freeze"
    assert name(Cut("lan:A", "out")) == "cut lan one way"
