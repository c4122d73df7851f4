"""A group of our own pair: the table, the lease and the stall. Time is a number here; nothing waits."""

from __future__ import annotations

from middlewared.protocol.carp_election import term_of
from middlewared.protocol.carp_messages import (
    Announce,
    Condition,
    Contended,
    DropVip,
    Grant,
    Probe,
    RenewVip,
    Report,
    Revoke,
    SendAdvert,
    Stalled,
    TakeVip,
    Tick,
    Withdraw,
)
from middlewared.protocol.carp_packet import Frame, decode
from middlewared.protocol.carp_table import State
from tests.protocol.carp_groups import DEAD_S, SECRET, advert, advskew_of, backup, master, only, paired, run

# Becoming master


def test_a_grant_takes_the_vip_advertises_and_announces_in_this_order() -> None:
    actions = backup().receive(Grant(term=2), 1.0)
    assert [type(action) for action in actions] == [TakeVip, SendAdvert, Announce, Report]
    frame = decode(only(SendAdvert, actions)[0].data, 255, SECRET)
    assert isinstance(frame, Frame)
    assert term_of(frame.counter) == 2
    assert (frame.advbase, frame.advskew) == (0, 26)


def test_silence_of_the_peer_is_reported_once_and_changes_nothing() -> None:
    machine = backup()
    done = run(machine, 0.0, 60.0)
    assert [type(action) for _, action in done] == [Report]
    assert done[0][0] == DEAD_S
    assert machine.state is State.BACKUP
    machine.receive(advert(1, 70.0), 70.0)
    assert len(run(machine, 70.0, 80.0)) == 1


def test_adverts_put_the_silence_off() -> None:
    machine = backup()
    for step in range(1, 20):
        assert run(machine, step * 0.1, step * 0.1) == []
        machine.receive(advert(1, step * 0.1), step * 0.1)
    assert machine.heard_at == 19 * 0.1


def test_a_master_advertises_each_interval_and_renews_each_quarter_of_a_second() -> None:
    done = run(master(), 0.0, 10.0)
    adverts = [at for at, action in done if isinstance(action, SendAdvert)]
    renewals = [at for at, action in done if isinstance(action, RenewVip)]
    assert len(adverts) == int(10.0 / (26 / 256))
    assert [round(at, 6) for at in renewals] == [0.25 * n for n in range(1, 41)]


def test_the_announcement_is_repeated_after_a_takeover() -> None:
    announced = [at for at, action in run(master(), 0.0, 10.0) if isinstance(action, Announce)]
    assert announced == [0.1, 0.5, 1.0, 2.0]


def test_a_further_term_is_taken_over_without_a_gap() -> None:
    machine = master(term=5)
    assert machine.receive(Grant(term=6), 0.1) == ()
    assert machine.state is State.MASTER
    sent = only(SendAdvert, [action for _, action in run(machine, 0.1, 0.2)])
    frame = decode(sent[0].data, 255, SECRET)
    assert isinstance(frame, Frame)
    assert term_of(frame.counter) == 6


def test_a_grant_that_an_advert_has_overtaken_is_refused() -> None:
    machine = backup()
    machine.receive(advert(9, 1.0), 1.0)
    (report,) = machine.receive(Grant(term=8), 1.1)
    assert report == Report("term 8 was granted, but term 9 is known")
    assert machine.state is State.BACKUP


# Ceasing to be master


def test_a_higher_term_drops_the_vip_at_once() -> None:
    machine = master(term=5)
    actions = machine.receive(advert(6, 0.1), 0.1)
    assert isinstance(actions[0], DropVip)
    assert machine.state is State.BACKUP


def test_a_revocation_drops_the_vip_at_once() -> None:
    machine = master(term=5)
    assert isinstance(machine.receive(Revoke(term=6, why="demoted"), 0.1)[0], DropVip)
    assert machine.status().why == "demoted"


def test_with_fenced_gone_the_vip_is_dropped_and_nothing_is_believed() -> None:
    machine = master(term=5)
    assert isinstance(machine.receive(Withdraw(why="fenced is gone"), 0.1)[0], DropVip)
    assert machine.state is State.INIT
    assert machine.deadline() is None


def test_absence_of_news_never_revokes() -> None:
    machine = master()
    run(machine, 0.0, 3600.0)
    assert machine.state is State.MASTER


def test_a_lower_or_equal_term_is_counted_and_answered_and_changes_nothing_whatever_its_advskew() -> None:
    machine = master(term=5)
    for count, term in ((1, 4), (2, 5)):
        now = count * 0.2
        machine.receive(Tick(), now)
        actions = machine.receive(advert(term, now + 0.01, advbase=0, advskew=0), now + 0.01)
        assert [type(action) for action in actions] == [SendAdvert, Announce, Report]
        assert machine.state is State.MASTER
        assert machine.rivals == count


def test_a_flood_of_rivals_is_answered_once_an_interval() -> None:
    machine = master(term=5)
    answers = [machine.receive(advert(4, 0.05 + n / 1000), 0.05 + n / 1000) for n in range(50)]
    assert sum(bool(actions) for actions in answers) == 1
    assert machine.rivals == 50
    assert 0.05 + 26 / 256 in [at for at, action in run(machine, 0.1, 0.2) if isinstance(action, Announce)]


# Leaving, and being contended


def test_a_master_that_is_told_to_leave_drops_first_and_then_says_so() -> None:
    for word in (Revoke(term=5, why="resigns"), Withdraw(why="carpd ends")):
        actions = master(term=5).receive(word, 0.1)
        assert [type(action) for action in actions] == [DropVip, SendAdvert, Report]
        frame = decode(only(SendAdvert, actions)[0].data, 255, SECRET)
        assert isinstance(frame, Frame)
        assert frame.is_farewell
        assert term_of(frame.counter) == 5


def test_a_farewell_makes_the_silence_known_earlier_and_does_nothing_else() -> None:
    machine = backup(term=5)
    machine.receive(advert(5, 1.0), 1.0)
    (report,) = machine.receive(advert(5, 1.05, advbase=255, advskew=255), 1.05)
    assert isinstance(report, Report)
    assert "silent" in report.why
    assert machine.state is State.BACKUP
    assert run(machine, 1.05, 10.0) == []
    assert machine.receive(advert(5, 11.0), 11.0) == ()
    assert machine.deadline() == 11.0 + DEAD_S


def test_a_farewell_of_a_lower_term_is_no_rival_and_one_of_a_higher_term_ends_a_master() -> None:
    machine = master(term=5)
    assert machine.receive(advert(4, 0.05, advbase=255, advskew=255), 0.05) == ()
    assert machine.rivals == 0
    assert isinstance(machine.receive(advert(6, 0.06, advbase=255, advskew=255), 0.06)[0], DropVip)


def test_somebody_else_who_has_the_vip_is_counted_and_answered_by_an_announcement_twice() -> None:
    machine = master(term=5)
    actions = machine.receive(Contended(mac="02:00:00:00:00:09", how="an ARP reply"), 0.05)
    assert [type(action) for action in actions] == [Announce, Report]
    assert "02:00:00:00:00:09" in only(Report, actions)[0].why
    assert machine.state is State.MASTER
    assert 0.05 + 26 / 256 in [at for at, action in run(machine, 0.05, 0.2) if isinstance(action, Announce)]


def test_a_flood_of_contenders_is_answered_once_an_interval() -> None:
    machine = master(term=5)
    other = Contended(mac="02:00:00:00:00:09", how="an ARP reply")
    assert sum(bool(machine.receive(other, 0.05 + n / 1000)) for n in range(50)) == 1
    assert machine.status().conflicts == 50


def test_a_contender_who_stays_is_reported_once_and_answered_each_time() -> None:
    machine = master(term=5)
    now, reports = 0.0, 0
    for _ in range(100):
        now += 0.2
        run(machine, now, now)
        actions = machine.receive(Contended(mac="02:00:00:00:00:09", how="an ARP reply"), now)
        assert Announce() in actions
        reports += len(only(Report, actions))
    assert reports == 1
    other = machine.receive(Contended(mac="02:00:00:00:00:08", how="an ARP reply"), now + 0.2)
    assert len(only(Report, other)) == 1


def test_a_stall_is_noticed_by_whatever_comes_first() -> None:
    machine = master()
    actions = machine.receive(Condition(node="A", demoted=True, refused=False), 10.0)
    assert isinstance(actions[0], DropVip)


def test_a_backup_counts_a_contender_and_says_nothing() -> None:
    machine = backup()
    assert machine.receive(Contended(mac="02:00:00:00:00:09", how="an ARP reply"), 0.05) == ()
    assert machine.status().conflicts == 1


def test_a_master_asks_the_lan_each_two_seconds_whether_somebody_else_has_the_vip() -> None:
    asked = [at for at, action in run(master(), 0.0, 7.0) if isinstance(action, Probe)]
    assert asked == [0.5, 2.5, 4.5, 6.5]


def test_adverts_say_the_condition_of_their_sender() -> None:
    machine = paired()
    machine.receive(Condition(node="B", demoted=False, refused=False), 0.0)
    assert machine.status().advskew == 240
    machine.receive(Revoke(term=1, why="standby"), 0.0)
    assert machine.status().advskew == 80
    (sent,) = only(SendAdvert, machine.receive(Grant(term=2), 0.1))
    assert advskew_of(sent) == 1
    machine.receive(Condition(node="B", demoted=True, refused=False), 0.1)
    assert [advskew_of(action) for _, action in run(machine, 0.1, 0.3) if isinstance(action, SendAdvert)] == [100]
    machine.receive(Condition(node="B", demoted=True, refused=True), 0.3)
    assert machine.status().advskew == 201


# The stall


def test_a_late_renewal_is_never_made() -> None:
    machine = master()
    actions = machine.receive(Tick(), 0.76)
    assert [type(action) for action in actions] == [DropVip, Report]
    assert only(Report, actions)[0].stalled
    assert machine.state is State.INIT


def test_a_renewal_within_the_stall_is_made() -> None:
    assert RenewVip(1.0) in master().receive(Tick(), 0.74)


def test_whatever_was_queued_during_a_stall_is_not_believed() -> None:
    for queued in (Grant(term=9), advert(4, 0.5), Tick()):
        machine = master()
        assert isinstance(machine.receive(queued, 10.0)[0], DropVip)
        assert machine.state is State.INIT


def test_after_a_stall_a_grant_waits_for_one_dead_time_of_listening() -> None:
    machine = master(term=5)
    machine.receive(Tick(), 10.0)
    assert machine.receive(Grant(term=5), 10.01) == ()
    assert machine.deadline() == 10.0 + DEAD_S
    assert machine.receive(Tick(), 10.2) == ()
    assert TakeVip(1.0) in machine.receive(Tick(), 10.0 + DEAD_S)


def test_after_a_stall_a_successor_that_is_heard_makes_the_grant_void() -> None:
    machine = master(term=5)
    machine.receive(Tick(), 10.0)
    machine.receive(Grant(term=5), 10.01)
    machine.receive(advert(6, 10.1), 10.1)
    assert machine.receive(Tick(), 10.0 + DEAD_S) == (Report("term 5 was granted, but term 6 is known"),)
    assert machine.state is State.INIT


def test_a_revocation_ends_a_grant_that_was_held_back() -> None:
    machine = master(term=5)
    machine.receive(Tick(), 10.0)
    machine.receive(Grant(term=5), 10.01)
    machine.receive(Revoke(term=6, why="standby"), 10.02)
    assert TakeVip(1.0) not in [action for _, action in run(machine, 10.02, 20.0)]


def test_a_stall_of_a_backup_makes_it_doubt_too() -> None:
    machine = backup()
    (report,) = machine.receive(Stalled(gap_s=3.0), 3.0)
    assert isinstance(report, Report)
    assert report.stalled
    assert machine.state is State.INIT
