"""What a tail would change, against what is now: hand-made cases, and any two histories from one beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from middlewared_plugins.auth import plugin as auth
from middlewared_plugins.auth.user import SetUpAdministrator
from middlewared_plugins.failover import plugin as failover
from middlewared_plugins.failover import settings
from middlewared_plugins.network import configuration, vip
from middlewared_plugins.network import plugin as network

from middlewared.engine.registry import Registry
from middlewared.engine.threeway import MASK, ThreeWay
from middlewared.kernel.errors import CallFailed, MiddlewareError
from middlewared.kernel.event import START, Position, Record, Stamp, seal
from middlewared.plugin import Command, Difference, Noun, Plugin, Row

REGISTRY = Registry((network, failover, auth))
INITIAL = {noun.name: noun.initial for noun in REGISTRY.nouns.values()}
STAMP = Stamp(term=2, origin="A", actor="eva", request_id="r", wall_ns=0)


def carried_out(states: Mapping[str, Any], commands: Sequence[Command]) -> tuple[dict[str, Any], list[Record]]:
    """The states after the commands, and the records that they made; what is refused makes none."""
    after, at, made = dict(states), START, list[Record]()
    for command in commands:
        noun = REGISTRY.nouns[command.noun]
        try:
            events = noun.decide(after[noun.name], command)
        except MiddlewareError:
            continue
        for event in events:
            made.append(seal(event, at, STAMP))
            after[noun.name] = noun.evolve(after[noun.name], event)
            at = made[-1].position
    return after, made


def folded(
    before: Mapping[str, Any], tail: Sequence[Command], since: Sequence[Command]
) -> tuple[ThreeWay, list[Command]]:
    """The tail's commands on one side, what was done since on the other; and what would be asked for again."""
    now, _ = carried_out(before, since)
    fold = ThreeWay(REGISTRY, before, now, START)
    asked = [fold.take(record) for record in carried_out(before, tail)[1]]
    return fold, [command for command in asked if command is not None]


def row(difference: Difference) -> tuple[object, ...]:
    d = difference
    return d.field, d.before, d.quarantined, d.now, d.again, d.conflict


def test_what_only_the_tail_changed_is_no_conflict_and_would_come_back() -> None:
    fold, _ = folded(INITIAL, [configuration.Update(domain="tail.example")], [])
    assert [row(d) for d in fold.differences()] == [("domain", "local", "tail.example", "local", "tail.example", False)]


def test_what_was_changed_since_to_something_else_is_a_conflict() -> None:
    fold, _ = folded(
        INITIAL,
        [configuration.Update(domain="tail.example", nameserver1="10.0.0.1")],
        [configuration.Update(domain="now.example", nameserver1="10.0.0.1")],
    )
    assert [row(d) for d in fold.differences()] == [
        ("domain", "local", "tail.example", "now.example", "tail.example", True),
        ("nameserver1", "", "10.0.0.1", "10.0.0.1", "10.0.0.1", False),
    ]


def test_what_the_tail_changed_and_took_back_is_shown_where_asking_again_would_change_it() -> None:
    there_and_back = [configuration.Update(domain="x.example"), configuration.Update(domain="local")]
    assert folded(INITIAL, there_and_back, [])[0].differences() == []
    fold, _ = folded(INITIAL, there_and_back, [configuration.Update(domain="now.example")])
    assert [row(d) for d in fold.differences()] == [("domain", "local", "local", "now.example", "local", True)]


def test_of_the_host_names_only_the_one_that_the_tail_changed_is_asked_for() -> None:
    fold, asked = folded(
        INITIAL, [configuration.Update(hostname="left")], [configuration.Update(hostname_b="right-now")]
    )
    assert asked == [configuration.Update(hostname="left")]
    assert [row(d)[0] for d in fold.differences()] == ["hostname_a"]


def test_a_row_that_came_or_went_is_null_where_it_is_not() -> None:
    before, _ = carried_out(INITIAL, [vip.Update(address="10.0.0.9", interface="lan0", vhid=7)])
    fold, asked = folded(before, [vip.Delete()], [])
    assert asked == [vip.Delete()]
    assert {d.field: (d.key, d.before, d.quarantined, d.again) for d in fold.differences()} == {
        "address": ({"vhid": 7}, "10.0.0.9", None, None),
        "prefix": ({"vhid": 7}, 32, None, None),
        "interface": ({"vhid": 7}, "lan0", None, None),
    }


def test_a_secret_is_masked_and_an_account_is_not_asked_for_again() -> None:
    fold, asked = folded(INITIAL, [SetUpAdministrator(username="root", password_hash="$argon2id$x")], [])
    assert asked == []
    assert fold.without_command == 1
    shown = {d.field: (d.before, d.quarantined, d.now, d.again) for d in fold.differences()}
    assert shown["password_hash"] == (None, MASK, None, None)
    assert "argon2" not in repr(fold.differences())


def test_a_record_that_does_not_follow_is_refused() -> None:
    _, records = carried_out(INITIAL, [configuration.Update(domain="a.example")])
    with pytest.raises(CallFailed, match="damaged at seq 1"):
        ThreeWay(REGISTRY, INITIAL, INITIAL, Position(0, 0, b"x" * 32)).take(records[0])


def test_an_event_of_another_build_is_passed_over_and_counted() -> None:
    older = Registry((Plugin(name="failover", nouns=(settings.NOUN,)),))
    states = {noun.name: noun.initial for noun in older.nouns.values()}
    fold = ThreeWay(older, states, states, START)
    _, records = carried_out(INITIAL, [configuration.Update(domain="a.example"), settings.Update(timeout_s=3)])
    assert [fold.take(record) for record in records] == [None, settings.Update(timeout_s=3)]
    assert fold.without_command == 1


texts = st.sampled_from(["local", "a.example", "b.example", "c.example"])
servers = st.sampled_from(["", "10.0.0.1", "10.0.0.2"])
commands = st.one_of(
    st.builds(configuration.Update, domain=texts),
    st.builds(configuration.Update, nameserver1=servers, hostname=st.sampled_from(["controller-a", "left"])),
    st.builds(configuration.Update, hostname_b=st.sampled_from(["controller-b", "right"])),
    st.builds(settings.Update, timeout_s=st.integers(0, 3), disabled=st.booleans()),
    st.builds(
        vip.Update, address=st.sampled_from(["10.0.0.9", "10.0.0.8"]), interface=st.just("lan0"), vhid=st.integers(1, 2)
    ),
    st.just(vip.Delete()),
)
histories = st.lists(commands, max_size=6)


@hypothesis.given(histories, histories, histories)
def test_asking_again_gives_what_the_difference_shows_and_what_it_does_not_show_stays(
    common: list[Command], tail: list[Command], since: list[Command]
) -> None:
    before, _ = carried_out(INITIAL, common)
    fold, asked = folded(before, tail, since)
    now, _ = carried_out(before, since)
    after, _ = carried_out(now, asked)
    shown = {(d.table, repr(d.key), d.field): d for d in fold.differences()}
    for noun in REGISTRY.nouns.values():
        rows_now, rows_after = fields(noun, now), fields(noun, after)
        for place in rows_now.keys() | rows_after.keys():
            told = shown.get(place)
            was, is_ = rows_now.get(place), rows_after.get(place)
            if told is None:
                assert was == is_
            else:
                assert (told.now, told.again) == (was, is_)
                if told.before != told.quarantined and noun is not vip.NOUN:
                    assert is_ == told.quarantined


def fields(noun: Noun[Any], states: Mapping[str, Any]) -> dict[tuple[str, str, str], object]:
    """Every field that is there, by (table, key, name)."""
    keys = [column.name for column in noun.table.primary_key.columns]

    def key_of(row: Row) -> str:
        return repr({key: row[key] for key in keys})

    rows = noun.project(states[noun.name])
    return {(noun.table.name, key_of(row), name): row[name] for row in rows for name in row if name not in keys}
