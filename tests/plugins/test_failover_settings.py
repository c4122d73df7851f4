from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st
from middlewared_plugins.failover.settings import NOUN, Settings, Update, Updated
from msgspec import UNSET

from tests.plugins.given import given, in_state

settings = st.builds(
    Settings, disabled=st.booleans(), default_node=st.sampled_from(("A", "B")), timeout_s=st.integers(0, 120)
)


def test_a_new_pair_fails_over_prefers_a_and_waits_for_no_network() -> None:
    assert NOUN.initial == Settings(disabled=False, default_node="A", timeout_s=0)


def test_an_event_states_all_settings_whatever_was_changed() -> None:
    given(NOUN, Updated(disabled=False, default_node="B", timeout_s=9)).when(Update(disabled=True)).then(
        Updated(disabled=True, default_node="B", timeout_s=9)
    )


def test_what_is_so_already_makes_no_event() -> None:
    given(NOUN).when(Update()).then()
    given(NOUN).when(Update(disabled=False, default_node="A", timeout_s=0)).then()


@pytest.mark.parametrize("timeout_s", [-1, 121])
def test_a_timeout_out_of_range_is_refused_under_the_name_that_clients_know(timeout_s: int) -> None:
    assert given(NOUN).when(Update(timeout_s=timeout_s)).refused() == {
        "timeout": f"{timeout_s} is not a number of seconds from 0 to 120"
    }


def test_t6_what_could_not_fail_over_is_not_enabled_and_is_disabled_and_changed_as_before() -> None:
    off = Updated(disabled=True, default_node="A", timeout_s=0)
    (field,) = given(NOUN, off).when(Update(disabled=False, critical=False)).refused()
    assert field == "disabled"
    given(NOUN).when(Update(disabled=True, critical=False)).then(off)
    assert given(NOUN).when(Update(disabled=False, timeout_s=9, critical=False)).after().timeout_s == 9


@pytest.mark.parametrize("timeout_s", [0, 120])
def test_the_shortest_and_the_longest_timeout_are_taken(timeout_s: int) -> None:
    assert given(NOUN).when(Update(disabled=True, timeout_s=timeout_s)).after().timeout_s == timeout_s


@hypothesis.given(settings, settings, st.booleans(), st.booleans(), st.booleans())
def test_after_a_command_every_setting_is_what_was_asked_or_what_it_was(
    before: Settings, wanted: Settings, disabled: bool, default_node: bool, timeout_s: bool
) -> None:
    command = Update(
        disabled=wanted.disabled if disabled else UNSET,
        default_node=wanted.default_node if default_node else UNSET,
        timeout_s=wanted.timeout_s if timeout_s else UNSET,
    )
    assert in_state(NOUN, before).when(command).after() == Settings(
        disabled=wanted.disabled if disabled else before.disabled,
        default_node=wanted.default_node if default_node else before.default_node,
        timeout_s=wanted.timeout_s if timeout_s else before.timeout_s,
    )


@hypothesis.given(settings)
def test_what_is_projected_can_be_restored(state: Settings) -> None:
    (row,) = NOUN.project(state)
    assert set(row) == {column.name for column in NOUN.table.columns}
    assert NOUN.restore([row]) == state
    assert NOUN.restore([]) == Settings()
