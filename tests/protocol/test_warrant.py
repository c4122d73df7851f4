"""From the words of fenced to what the groups are told."""

from __future__ import annotations

import msgspec

from middlewared.protocol.carp_messages import Grant, Revoke, Withdraw
from middlewared.protocol.hub import Role, Standing
from middlewared.protocol.warrant import Warrant


def standing(role: Role, term: int = 5) -> Standing:
    return Standing(
        role=role,
        term=term,
        since=0.0,
        said_at=0.0,
        why="because",
        rule="R",
        record=None,
        voters=(),
        peer_interlink_at=None,
        peer_advert_at=None,
        peer_disk_at=None,
        settled=True,
        resigned=False,
        scheduling="",
        serves=role in ("OWNER", "SINGLE"),
    )


def owner(term: int = 5) -> Warrant:
    warrant = Warrant(1.0, 0.0)
    warrant.connected()
    assert warrant.hear(standing("OWNER", term)) == Grant(term=term)
    return warrant


def test_an_owner_that_keeps_clients_out_holds_no_vip() -> None:
    warrant = owner()
    blocked = msgspec.structs.replace(standing("OWNER"), serves=False, why="the pools are exported")
    assert warrant.hear(blocked) == Revoke(term=5, why="OWNER: the pools are exported")
    assert warrant.hear(standing("OWNER")) == Grant(term=5)


def test_owner_and_single_grant_the_term() -> None:
    assert owner().last == Grant(term=5)
    assert Warrant(1.0, 0.0).hear(standing("SINGLE", 1)) == Grant(term=1)


def test_standby_and_waiting_revoke_with_the_reason() -> None:
    assert owner().hear(standing("STANDBY", 6)) == Revoke(term=6, why="STANDBY: because")
    assert owner().hear(standing("WAITING", 6)) == Revoke(term=6, why="WAITING: because")
    assert Warrant(1.0, 0.0).hear(standing("WAITING", 0)) == Revoke(term=0, why="WAITING: because")


def test_a_fenced_that_just_restarted_and_waits_does_not_drop_the_vip() -> None:
    warrant = owner()
    warrant.lost(10.0)
    warrant.connected()
    assert warrant.hear(standing("WAITING", 0)) is None
    assert warrant.hear(standing("WAITING", 0)) is None
    assert warrant.hear(standing("OWNER", 6)) == Grant(term=6)
    assert warrant.deadline() is None


def test_a_restarted_fenced_that_goes_on_waiting_withdraws_after_the_patience() -> None:
    warrant = owner()
    warrant.lost(10.0)
    warrant.connected()
    warrant.hear(standing("WAITING", 0))
    assert warrant.tick(10.9) is None
    assert isinstance(warrant.tick(11.0), Withdraw)


def test_a_restarted_fenced_that_is_standby_revokes_at_once() -> None:
    warrant = owner()
    warrant.lost(10.0)
    warrant.connected()
    assert isinstance(warrant.hear(standing("STANDBY", 6)), Revoke)


def test_fenced_gone_for_the_patience_withdraws_once() -> None:
    warrant = owner()
    assert warrant.deadline() is None
    warrant.lost(10.0)
    warrant.lost(10.5)
    assert warrant.deadline() == 11.0
    assert warrant.tick(10.99) is None
    assert warrant.tick(11.0) == Withdraw(why="no word of fenced for 1.00 s")
    assert warrant.tick(12.0) is None
    assert warrant.deadline() is None


def test_a_connection_that_comes_back_in_time_changes_nothing() -> None:
    warrant = owner()
    warrant.lost(10.0)
    warrant.connected()
    warrant.hear(standing("OWNER"))
    assert warrant.tick(60.0) is None


def test_no_word_since_the_start_withdraws_too() -> None:
    assert isinstance(Warrant(1.0, 0.0).tick(1.0), Withdraw)


def test_after_a_stall_the_last_word_is_worth_nothing() -> None:
    warrant = owner()
    warrant.forget(10.0)
    assert warrant.last is None
    assert warrant.deadline() == 11.0
    warrant.connected()
    assert isinstance(warrant.hear(standing("WAITING")), Revoke)
