"""A noun's whole behaviour in one line: given(NOUN, events...).when(command).then(events...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec
import pytest

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Event
from middlewared.plugin import Command, Noun

S = TypeVar("S", bound=msgspec.Struct)


class Given(Generic[S]):
    """A noun in the state that follows from `events`, each of them as the log would give it back."""

    def __init__(self, noun: Noun[S], *events: Event) -> None:
        self.noun = noun
        self.state = noun.initial
        for event in events:
            self.state = noun.evolve(self.state, as_read(event))

    def when(self, command: Command) -> When[S]:
        return When(self.noun, self.state, command)


class When(Generic[S]):
    """A command that was decided against a state."""

    def __init__(self, noun: Noun[S], state: S, command: Command) -> None:
        self._noun = noun
        self._before = state
        self._command = command

    def decided(self) -> Sequence[Event]:
        return self._noun.decide(self._before, self._command)

    def then(self, *events: Event) -> None:
        assert list(self.decided()) == list(events)

    def after(self) -> S:
        """The state when what was decided has been folded."""
        state = self._before
        for event in self.decided():
            state = self._noun.evolve(state, as_read(event))
        return state

    def refused(self) -> dict[str, str]:
        """Every field that is refused, with the sentence that says why."""
        with pytest.raises(Refused) as error:
            self.decided()
        return {field: message for field, message, _ in error.value.problems}


def given(noun: Noun[S], *events: Event) -> Given[S]:
    return Given(noun, *events)


def in_state(noun: Noun[S], state: S) -> Given[S]:
    """The same, from a state instead of the events that led to it."""
    made = Given(noun)
    made.state = state
    return made


def as_read(event: Event) -> Event:
    """The event after its way through the log's bytes."""
    return msgspec.json.decode(msgspec.json.encode(event), type=type(event))
