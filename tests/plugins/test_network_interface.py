"""The noun `interface`: what may be configured, and how edits come into force."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st
from middlewared_plugins.network.interface import (
    NOUN,
    CancelRollback,
    CheckedIn,
    CheckIn,
    Commit,
    Committed,
    Delete,
    Deleted,
    Edited,
    Interfaces,
    RollBack,
    RollbackCancelled,
    RolledBack,
    Trial,
    Update,
    left_s,
)
from middlewared_plugins.network.interface_rules import Address, Interface, Virtual

from middlewared.kernel.event import Event
from middlewared.kernel.facts import FailoverGroup, Vip
from middlewared.plugin import Command
from tests.plugins.given import as_read, given, in_state

A, B = Address(address="192.0.2.1", prefix=24), Address(address="192.0.2.2", prefix=24)
A6, B6 = Address(address="2001:db8::1", prefix=64), Address(address="2001:db8::2", prefix=64)
ETH0 = Interface(
    name="eth0",
    aliases=(A,),
    failover_aliases=(B,),
    virtual_aliases=(Virtual(address="192.0.2.10", vhid=21),),
    critical=True,
    group=1,
)
EDIT = Update(
    name="eth0",
    aliases=(A,),
    failover_aliases=(B,),
    failover_virtual_aliases=(Virtual(address="192.0.2.10"),),
    failover_critical=True,
    failover_group=1,
    paired=True,
)
COMMIT = Commit(id="t1", timeout_s=60, boot_id="b", uptime_ms=7000, wall_ns=9)
COMMITTED = Committed(id="t1", timeout_s=60, boot_id="b", uptime_ms=7000, wall_ns=9)
ETH1 = Interface(name="eth1", aliases=(Address(address="198.51.100.1", prefix=24),))


def change(**fields: object) -> Update:
    return Update(**{"name": "eth0", "paired": True, **fields})  # type: ignore[arg-type]


# Edits


def test_an_edit_waits_for_a_commit_and_is_in_force_nowhere() -> None:
    given(NOUN).when(EDIT).then(Edited(interface=ETH0))
    state = given(NOUN).when(EDIT).after()
    assert (state.in_force, state.edited, state.is_changing) == ((), (ETH0,), True)
    assert (state.vips, state.groups) == ((), ())


def test_what_is_left_out_stays_and_what_changes_nothing_is_no_event() -> None:
    given(NOUN, Edited(interface=ETH0)).when(change(description="storage")).then(
        Edited(
            interface=Interface(
                name="eth0",
                aliases=(A,),
                failover_aliases=(B,),
                virtual_aliases=ETH0.virtual_aliases,
                critical=True,
                group=1,
                description="storage",
            )
        )
    )
    given(NOUN, Edited(interface=ETH0)).when(EDIT).then()


def test_an_interface_is_forgotten_by_an_edit_as_well() -> None:
    given(NOUN, Edited(interface=ETH0)).when(Delete(name="eth0")).then(Deleted(name="eth0"))
    given(NOUN).when(Delete(name="eth0")).then()


# VHIDs: one for each VIP


def test_virtual_addresses_without_a_vhid_get_free_ones_and_keep_them() -> None:
    taken = Vip(vhid=22, address="10.9.9.9", prefix=24, interface="eth9")
    edit = change(
        aliases=(A, A6),
        failover_aliases=(B, B6),
        failover_virtual_aliases=(Virtual(address="192.0.2.10"), Virtual(address="2001:db8::10")),
        foreign=(21,),
        elsewhere=(taken,),
    )
    state = given(NOUN).when(edit).after()
    assert [virtual.vhid for virtual in state.edited[0].virtual_aliases] == [23, 24]
    turned = change(
        aliases=(A6, A),
        failover_aliases=(B6, B),
        failover_virtual_aliases=(Virtual(address="2001:db8::10"), Virtual(address="192.0.2.10")),
    )
    after = in_state(NOUN, state).when(turned).after()
    assert [virtual.vhid for virtual in after.edited[0].virtual_aliases] == [24, 23]


def test_a_new_address_before_an_old_one_does_not_take_its_vhid() -> None:
    two = change(
        aliases=(A, Address(address="198.51.100.1", prefix=24)),
        failover_aliases=(B, Address(address="198.51.100.2", prefix=24)),
        failover_virtual_aliases=(Virtual(address="192.0.2.11"), Virtual(address="198.51.100.10")),
    )
    one = Interface(
        name="eth0",
        aliases=two.aliases[1:],  # type: ignore[index]
        failover_aliases=two.failover_aliases[1:],  # type: ignore[index]
        virtual_aliases=(Virtual(address="198.51.100.10", vhid=21),),
    )
    after = given(NOUN, Edited(interface=one)).when(two).after()
    assert [virtual.vhid for virtual in after.edited[0].virtual_aliases] == [22, 21]


@pytest.mark.parametrize("vhid", [0, 256, -1])
def test_s20_a_vhid_out_of_range_is_refused(vhid: int) -> None:
    faults = given(NOUN, Edited(interface=ETH0)).when(change(failover_vhid=vhid)).refused()
    assert faults == {"failover_vhid": f"{vhid} is not a virtual host id from 1 to 255"}


def test_s20_a_vhid_that_somebody_else_has_is_refused_wherever_it_is() -> None:
    by_vip = Vip(vhid=7, address="10.9.9.9", prefix=24, interface="eth9")
    for extra, sentence in (
        ({"foreign": (7,)}, "VHID 7 is in use on this network"),
        ({"elsewhere": (by_vip,)}, "VHID 7 is in use by 10.9.9.9"),
    ):
        assert given(NOUN, Edited(interface=ETH0)).when(change(failover_vhid=7, **extra)).refused() == {
            "failover_vhid": sentence
        }
    own = change(description="storage", foreign=(21,))
    assert given(NOUN, Edited(interface=ETH0)).when(own).after().edited[0].description == "storage"
    second = Update(
        name="eth1",
        aliases=(Address(address="198.51.100.1", prefix=24),),
        failover_aliases=(Address(address="198.51.100.2", prefix=24),),
        failover_virtual_aliases=(Virtual(address="198.51.100.10", vhid=21),),
        paired=True,
    )
    assert given(NOUN, Edited(interface=ETH0)).when(second).refused() == {
        "failover_vhid": "VHID 21 is in use by 192.0.2.10"
    }


# Faults


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"failover_group": None}, "failover_group"),
        ({"failover_group": 33}, "failover_group"),
        ({"failover_virtual_aliases": ()}, "failover_virtual_aliases"),
        ({"failover_aliases": ()}, "failover_aliases"),
        ({"aliases": (A, A6)}, "failover_aliases"),
        ({"failover_virtual_aliases": (Virtual(address="192.0.2.10"),) * 2}, "failover_virtual_aliases"),
        ({"aliases": (Address(address="192.0.2.300", prefix=24),)}, "aliases.0.address"),
        ({"aliases": (Address(address="192.0.2.1", prefix=33),)}, "aliases.0.netmask"),
        ({"aliases": (Address(address="224.0.0.1", prefix=24),)}, "aliases.0.address"),
        ({"failover_aliases": (Address(address="10.0.0.2", prefix=24),)}, "failover_aliases.0.address"),
        ({"failover_virtual_aliases": (Virtual(address="10.0.0.2"),)}, "failover_virtual_aliases.0.address"),
        ({"failover_virtual_aliases": (Virtual(address="nonsense"),)}, "failover_virtual_aliases.0.address"),
        ({"failover_aliases": (A,)}, "failover_aliases.0.address"),
        ({"failover_virtual_aliases": (Virtual(address="192.0.2.1"),)}, "failover_virtual_aliases.0.address"),
        ({"description": "two\nlines"}, "description"),
    ],
)
def test_s20_each_fault_is_told_under_its_field(fields: dict[str, object], field: str) -> None:
    assert field in given(NOUN, Edited(interface=ETH0)).when(change(**fields)).refused()


def test_critical_without_a_group_is_refused_in_the_words_that_clients_know() -> None:
    assert given(NOUN, Edited(interface=ETH0)).when(change(failover_group=None)).refused() == {
        "failover_group": "A failover group is required when configuring a critical failover interface."
    }


def test_two_interfaces_of_one_network_are_refused() -> None:
    other = change(name="eth1", aliases=(Address(address="192.0.2.77", prefix=25),), paired=False)
    assert list(given(NOUN, Edited(interface=ETH0)).when(other).refused()) == ["aliases.0.address"]


def test_before_pairing_one_controller_is_configured_by_itself() -> None:
    alone = Update(name="eth0", aliases=(A,))
    given(NOUN).when(alone).then(Edited(interface=Interface(name="eth0", aliases=(A,))))


def test_a_name_that_is_none_is_refused() -> None:
    assert list(given(NOUN).when(Update(name="../x")).refused()) == ["name"]


# Coming into force


def test_a_commit_puts_the_edits_into_force_and_a_checkin_keeps_them() -> None:
    tried = given(NOUN, Edited(interface=ETH0)).when(COMMIT)
    tried.then(COMMITTED)
    state = tried.after()
    assert (state.saved, state.in_force, state.pending) == ((), (ETH0,), None)
    assert state.vips == (Vip(vhid=21, address="192.0.2.10", prefix=24, interface="eth0"),)
    assert state.groups == (FailoverGroup(number=1, interfaces=("eth0",)),)
    assert state.is_changing
    kept = in_state(NOUN, state).when(CheckIn()).after()
    assert kept == Interfaces(saved=(ETH0,))
    assert not kept.is_changing


def test_without_a_rollback_a_commit_keeps_at_once() -> None:
    now = Commit(id="t1", timeout_s=None, boot_id="b", uptime_ms=7000, wall_ns=9)
    assert given(NOUN, Edited(interface=ETH0)).when(now).after() == Interfaces(saved=(ETH0,))


def test_a_commit_of_nothing_is_no_event_and_a_time_out_of_range_is_refused() -> None:
    given(NOUN).when(COMMIT).then()
    for timeout_s in (0, -1, 3601):
        late = Commit(id="t1", timeout_s=timeout_s, boot_id="b", uptime_ms=7000, wall_ns=9)
        assert list(given(NOUN, Edited(interface=ETH0)).when(late).refused()) == ["checkin_timeout"]


def test_a_rollback_undoes_trial_and_edits() -> None:
    on_trial = (Edited(interface=ETH0), COMMITTED, Edited(interface=ETH1))
    undone = given(NOUN, *on_trial).when(RollBack())
    undone.then(RolledBack(trial="t1"))
    assert undone.after() == Interfaces()
    given(NOUN, Edited(interface=ETH0)).when(RollBack()).then(RolledBack(trial=""))
    given(NOUN).when(RollBack()).then()


def test_s12_a_rollback_whose_time_came_undoes_its_own_trial_and_no_other() -> None:
    given(NOUN, Edited(interface=ETH0), COMMITTED).when(RollBack(trial="t1")).then(RolledBack(trial="t1"))
    given(NOUN, Edited(interface=ETH0), COMMITTED).when(RollBack(trial="t0")).then()
    given(NOUN, Edited(interface=ETH0), COMMITTED, CheckedIn()).when(RollBack(trial="t1")).then()


def test_a_commit_during_a_trial_begins_anew_and_what_was_saved_stays_the_way_back() -> None:
    again = Committed(id="t2", timeout_s=30, boot_id="b", uptime_ms=9000, wall_ns=9)
    state = given(NOUN, Edited(interface=ETH0), COMMITTED, Edited(interface=ETH1), again).state
    assert state.saved == ()
    assert state.in_force == (ETH0, ETH1)
    assert state.trial is not None
    assert state.trial.id == "t2"


def test_a_trial_without_an_end_waits_for_a_checkin_or_a_rollback() -> None:
    cancelled = given(NOUN, Edited(interface=ETH0), COMMITTED).when(CancelRollback())
    cancelled.then(RollbackCancelled())
    state = cancelled.after()
    assert state.trial is not None
    assert left_s(state.trial, boot_id="b", uptime_s=1e6, wall_ns=10**18) is None
    assert in_state(NOUN, state).when(CheckIn()).after() == Interfaces(saved=(ETH0,))
    given(NOUN).when(CancelRollback()).then()
    given(NOUN).when(CheckIn()).then()


# The deadline

TRIAL = Trial(id="t", interfaces=(), timeout_s=60, boot_id="b", uptime_ms=100_000, wall_ns=10**18)


def test_where_it_began_the_time_is_counted_by_the_clock_that_nobody_sets() -> None:
    assert left_s(TRIAL, boot_id="b", uptime_s=110.0, wall_ns=0) == 50.0
    assert left_s(TRIAL, boot_id="b", uptime_s=500.0, wall_ns=0) == 0.0


@pytest.mark.parametrize(("later_s", "left"), [(10, 50.0), (0, 60.0), (-86400, 60.0), (86400, 0.0)])
def test_elsewhere_by_wall_clocks_and_never_longer_than_the_whole_time(later_s: int, left: float) -> None:
    assert left_s(TRIAL, boot_id="c", uptime_s=1.0, wall_ns=10**18 + later_s * 10**9) == left


# The rows


stages = st.lists(
    st.sampled_from(
        (
            EDIT,
            change(name="eth1", aliases=(Address(address="10.1.0.1", prefix=24),), paired=False),
            Delete(name="eth0"),
            Delete(name="eth1"),
            COMMIT,
            COMMIT,
            CheckIn(),
            CancelRollback(),
            RollBack(),
        )
    ),
    max_size=12,
)


@hypothesis.given(stages)
def test_whatever_was_done_the_rows_give_the_state_again(commands: Sequence[Command]) -> None:
    state = NOUN.initial
    for command in commands:
        events: Sequence[Event] = NOUN.decide(state, command)
        for event in events:
            state = NOUN.evolve(state, as_read(event))
        assert NOUN.restore(NOUN.project(state)) == state
