"""Starting, killing and giving up daemons, with time handed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middlewared.lab.supervision import (
    BACKOFF_S,
    STALL_S,
    YOUNG_S,
    Alive,
    Ended,
    Kill,
    Ready,
    Reboot,
    Service,
    Start,
    Supervision,
    Tick,
)

PLAIN = Service(name="plain", argv=("p",), log="p.log")
VITAL = Service(name="vital", argv=("v",), log="v.log", vital_s=1.0, longest_wait_s=0.5)
WATCHED = Service(name="watched", argv=("w",), log="w.log", watchdog_s=5.0)


def started(*services: Service) -> Supervision:
    supervision = Supervision(services, 0.0)
    assert supervision.receive(Tick(), 0.0) == [Start(service.name) for service in services]
    return supervision


def test_every_service_is_started_in_the_order_given() -> None:
    supervision = started(PLAIN, VITAL, WATCHED)
    assert supervision.deadline() is None


def test_a_service_that_lived_is_started_again_within_100_ms() -> None:
    supervision = started(PLAIN)
    assert supervision.receive(Ended("plain"), 60.0) == []
    due = supervision.deadline()
    assert due is not None
    assert due - 60.0 < 0.1
    assert supervision.receive(Tick(), due) == [Start("plain")]


def test_a_service_shot_each_second_never_waits_longer() -> None:
    supervision, now = started(PLAIN), 0.0
    for _ in range(20):
        now += YOUNG_S
        supervision.receive(Ended("plain"), now)
        due = supervision.deadline()
        assert due is not None
        assert due - now < 0.1
        now = due
        assert supervision.receive(Tick(), now) == [Start("plain")]


def test_a_service_that_cannot_start_is_tried_ever_less_often_up_to_two_seconds() -> None:
    supervision, now, delays = started(PLAIN), 0.0, []
    for _ in range(10):
        now += 0.01
        supervision.receive(Ended("plain"), now)
        due = supervision.deadline()
        assert due is not None
        delays.append(round(due - now, 6))
        now = due
        supervision.receive(Tick(), now)
    assert delays == sorted(delays)
    assert delays[-1] == BACKOFF_S[-1] == 2.0


def test_a_vital_service_that_comes_back_in_time_causes_no_reboot() -> None:
    supervision = started(VITAL)
    supervision.receive(Ended("vital"), 10.0)
    supervision.receive(Tick(), 10.02)
    assert supervision.receive(Tick(), 11.0) == []
    assert supervision.deadline() is None


def test_a_vital_service_that_is_shot_again_and_again_is_always_back_in_time() -> None:
    supervision, now = started(VITAL), 0.0
    for _ in range(20):
        assert supervision.receive(Ended("vital"), now) == []
        due = supervision.deadline()
        assert due is not None
        assert due - now <= 0.5
        assert supervision.receive(Tick(), due) == [Start("vital")]
        assert supervision.receive(Ready("vital"), due + 0.15) == []
        now = due + 0.2


def test_a_vital_service_that_stays_gone_reboots_the_controller() -> None:
    supervision, now = started(VITAL), 0.0
    actions = supervision.receive(Ended("vital"), now)
    while not any(isinstance(action, Reboot) for action in actions):
        due = supervision.deadline()
        assert due is not None
        now = due
        assert now < 5.0
        actions = supervision.receive(Tick(), now)
        if Start("vital") in actions:
            actions = supervision.receive(Ended("vital"), now + 0.001)
    assert now >= 1.0


def test_silence_after_ready_kills_and_the_end_restarts() -> None:
    supervision = started(WATCHED)
    supervision.receive(Ready("watched"), 1.0)
    supervision.receive(Alive("watched"), 4.0)
    assert supervision.receive(Tick(), 8.9) == []
    assert supervision.receive(Tick(), 9.0) == [Kill("watched", "it said nothing for 5.0 s")]
    supervision.receive(Ended("watched"), 9.01)
    assert supervision.receive(Tick(), 9.1) == [Start("watched")]


def test_silence_before_ready_is_no_reason_to_kill() -> None:
    supervision = started(WATCHED)
    supervision.receive(Alive("watched"), 1.0)
    assert supervision.receive(Tick(), 1000.0) == []


def test_a_controller_that_was_frozen_neither_kills_nor_reboots_when_it_thaws() -> None:
    supervision = started(WATCHED, VITAL)
    supervision.receive(Ready("watched"), 1.0)
    supervision.receive(Ended("vital"), 2.0)
    assert supervision.receive(Tick(), 100.0) == [Start("vital")]
    assert supervision.deadline() == 105.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Tick(), Ended("vital"), Ended("watched"), Ready("watched"), Alive("watched")]),
            st.floats(0.0, STALL_S),
        ),
        max_size=60,
    )
)
def test_only_what_runs_is_killed_and_only_what_ended_is_started(steps: list[tuple[object, float]]) -> None:
    supervision, now, running = started(VITAL, WATCHED), 0.0, {"vital", "watched"}
    for message, gap in steps:
        now += gap
        if isinstance(message, Ended):
            if message.name not in running:
                continue
            running.discard(message.name)
        assert isinstance(message, Tick | Ended | Ready | Alive)
        for action in supervision.receive(message, now):
            if isinstance(action, Start):
                assert action.name not in running
                running.add(action.name)
            elif isinstance(action, Kill):
                assert action.name in running
            else:
                assert isinstance(action, Reboot)
                return
        due = supervision.deadline()
        assert due is None or due > now
