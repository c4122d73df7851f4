from __future__ import annotations

import msgspec

from middlewared.engine.alerts import Alerts
from middlewared.engine.standin import FACTS
from middlewared.plugin import AlertSource, ControllerFacts

QUICK = AlertSource(klass="Blocked", level="CRITICAL", title="blocked", holds=lambda facts: facts.apply_blocked)
SLOW = AlertSource(klass="Behind", level="WARNING", title="behind", holds=lambda facts: facts.behind, after_s=5.0)
MANY = AlertSource(
    klass="Failing",
    level="WARNING",
    title="failing",
    holds=lambda facts: {name: why for name, why in facts.effects.items() if why},
)


def at(seconds: float, **fields: object) -> ControllerFacts:
    return msgspec.structs.replace(FACTS, uptime_s=seconds, wall_ns=int(seconds * 1e9), **fields)


def test_an_alert_says_since_when_it_holds_and_is_the_same_one_while_it_does() -> None:
    alerts = Alerts("B", [QUICK])
    (first,) = alerts.look(at(10.0, apply_blocked="seq 5"))
    (again,) = alerts.look(at(12.0, apply_blocked="seq 5"))
    assert first == again
    assert (first.id, first.node, first.level, first.formatted) == ("Blocked-B", "B", "CRITICAL", "seq 5")
    assert first.datetime == {"$date": 10_000}


def test_an_alert_that_ended_and_came_again_is_a_new_one_and_is_unread() -> None:
    alerts = Alerts("A", [QUICK])
    alerts.look(at(10.0, apply_blocked="x"))
    alerts.dismiss("Blocked-A", dismissed=True)
    assert alerts.look(at(11.0, apply_blocked="x"))[0].dismissed
    assert alerts.look(at(12.0)) == []
    (again,) = alerts.look(at(13.0, apply_blocked="x"))
    assert (again.datetime, again.dismissed) == ({"$date": 13_000}, False)


def test_what_must_hold_for_a_while_is_told_after_it_and_dated_from_its_beginning() -> None:
    alerts = Alerts("A", [SLOW])
    assert alerts.look(at(10.0, behind="x")) == []
    assert alerts.look(at(14.9, behind="x")) == []
    assert alerts.look(at(15.0, behind="x"))[0].datetime == {"$date": 10_000}
    alerts.look(at(16.0))
    assert alerts.look(at(17.0, behind="x")) == []


def test_one_class_may_hold_of_several_things_each_with_its_key() -> None:
    alerts = Alerts("A", [MANY])
    alerts.look(at(1.0, effects={"hosts": "read-only", "routes": None}))
    told = alerts.look(at(2.0, effects={"routes": "no route", "hosts": "read-only"}))
    assert [(alert.id, alert.formatted) for alert in told] == [
        ("Failing-A-hosts", "read-only"),
        ("Failing-A-routes", "no route"),
    ]


def test_a_dismissal_can_be_taken_back() -> None:
    alerts = Alerts("A", [QUICK])
    alerts.look(at(1.0, apply_blocked="x"))
    alerts.dismiss("Blocked-A", dismissed=True)
    alerts.dismiss("Blocked-A", dismissed=False)
    assert not alerts.look(at(2.0, apply_blocked="x"))[0].dismissed
