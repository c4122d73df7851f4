"""The noun that says in which format the log goes on."""

from __future__ import annotations

import pytest

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import LOG_FORMAT, UnknownKind
from middlewared.log_format import NOUN, LogFormat, Raise, Raised, evolve, project, restore
from tests.plugins.given import given


def test_a_log_that_does_not_say_it_is_of_the_first_format() -> None:
    assert NOUN.initial == LogFormat(log_format=1) == restore([])
    assert project(NOUN.initial) == [], "as in a file that was made before there was this table"


def test_a_raise_is_written_once_and_never_back() -> None:
    given(NOUN).when(Raise(log_format=2)).then(Raised(log_format=2))
    given(NOUN, Raised(log_format=2)).when(Raise(log_format=2)).then()
    given(NOUN, Raised(log_format=2)).when(Raise(log_format=1)).then()


def test_a_format_that_this_build_does_not_write_is_refused() -> None:
    with pytest.raises(Refused, match=f"log_format: {LOG_FORMAT + 1} is not known"):
        given(NOUN).when(Raise(log_format=LOG_FORMAT + 1)).decided()


def test_a_raise_to_a_format_of_a_newer_build_is_not_folded() -> None:
    with pytest.raises(
        UnknownKind, match=f"log format {LOG_FORMAT + 1} is not known to this build, which reads up to {LOG_FORMAT}"
    ):
        evolve(LogFormat(log_format=2), Raised(log_format=LOG_FORMAT + 1))


def test_rows_give_the_state_back() -> None:
    raised = LogFormat(log_format=2)
    assert restore(project(raised)) == raised
