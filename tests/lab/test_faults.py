"""Which cables are whole, given what was cut and what is off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middlewared.lab.faults import LINKS, NODES, Cut, Faults, cut, heal, plug, unplug, wiring

ALL_ON = Faults(plugged=frozenset({"A", "B", "client"}))

cuts = st.builds(Cut, st.sampled_from(LINKS), st.sampled_from(["both", "in", "out", "lossy"]))
some_faults = st.builds(
    Faults, plugged=st.frozensets(st.sampled_from(["A", "B", "client"])), cuts=st.frozensets(cuts, max_size=6)
)


def test_a_whole_lab_has_every_port_up_and_nothing_dropped() -> None:
    wires = wiring(ALL_ON)
    assert wires.up == {"sA", "sB", "sC", "tA", "tB", "tC", "iA", "iB"}
    assert (wires.drop_from, wires.drop_to) == (frozenset(), frozenset())
    assert wires.shelf == {"A": frozenset(), "B": frozenset()}


def test_a_controller_without_power_has_no_cable_and_its_peer_loses_the_interlink() -> None:
    wires = wiring(unplug(ALL_ON, "A"))
    assert wires.up == {"sB", "sC", "tB", "tC"}
    assert wires.shelf == {"A": frozenset({"both"}), "B": frozenset()}


def test_a_cut_lan_leaves_the_interlink_up() -> None:
    whole = wiring(ALL_ON).up
    assert wiring(cut(ALL_ON, "lan:B", "both")).up == whole - {"sB"}
    assert wiring(cut(ALL_ON, "lan2:B", "both")).up == whole - {"tB"}


def test_a_cut_interlink_takes_the_carrier_at_both_ends() -> None:
    assert wiring(cut(ALL_ON, "interlink", "both")).up == wiring(ALL_ON).up - {"iA", "iB"}


def test_one_way_drops_frames_towards_or_from_the_controller_and_keeps_carrier() -> None:
    towards, away = wiring(cut(ALL_ON, "lan:A", "in")), wiring(cut(ALL_ON, "interlink", "out"))
    assert (towards.up, towards.drop_to, towards.drop_from) == (wiring(ALL_ON).up, frozenset({"sA"}), frozenset())
    assert (away.up, away.drop_to, away.drop_from) == (wiring(ALL_ON).up, frozenset(), frozenset({"iA"}))


def test_a_lossy_cable_keeps_carrier_and_drops_some_frames_both_ways() -> None:
    wires = wiring(cut(cut(ALL_ON, "lan:A", "lossy"), "interlink", "lossy"))
    assert (wires.up, wires.lossy) == (wiring(ALL_ON).up, frozenset({"sA", "iA"}))
    assert (wires.drop_from, wires.drop_to) == (frozenset(), frozenset())


def test_a_shelf_cable_loses_nothing() -> None:
    assert wiring(cut(ALL_ON, "shelf:A", "lossy")) == wiring(ALL_ON)


def test_a_shelf_cable_cut_in_both_ways_one_by_one_is_cut() -> None:
    assert wiring(cut(cut(ALL_ON, "shelf:B", "in"), "shelf:B", "out")).shelf["B"] == {"both"}


@given(some_faults, cuts)
def test_a_cut_may_be_repeated_and_healing_it_undoes_it(faults: Faults, new: Cut) -> None:
    once = cut(faults, new.link, new.way)
    assert cut(once, new.link, new.way) == once
    assert new not in heal(once, new.link, new.way).cuts


@given(some_faults)
def test_healing_every_link_with_all_machines_on_makes_the_lab_whole(faults: Faults) -> None:
    for machine in ("A", "B", "client"):
        faults = plug(faults, machine)
    for link in LINKS:
        faults = heal(faults, link, "both")
    assert wiring(faults) == wiring(ALL_ON)


@given(some_faults)
def test_no_heal_plugs_a_machine_in_that_is_off(faults: Faults) -> None:
    for link in LINKS:
        faults = heal(faults, link, "both")
    wires = wiring(faults)
    for node in NODES:
        if node not in faults.plugged:
            assert not wires.up & {f"s{node}", f"t{node}", "iA", "iB"}
            assert wires.shelf[node] == {"both"}
