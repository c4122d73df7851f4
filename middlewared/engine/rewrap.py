"""Every noun that holds secrets can have them closed anew, under another key, whoever wrote the noun.

Such a noun says which secrets its state holds (plugin.Secrets). The registry adds to it what is the same for all: the
command Rewrap, the event `<noun>.secrets.rewrapped`, and how the two are decided and folded. Opening and closing
happened before the command was made; a secret that was changed meanwhile is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, TypeVar

import msgspec

from middlewared.kernel.event import Event
from middlewared.kernel.secret import Sealed
from middlewared.plugin import Command, Noun, Rewrap

S = TypeVar("S", bound=msgspec.Struct)

FIELDS_AN_EVENT = 500
"""An event is 256 KiB at most; an envelope with its name takes less than half of one."""


class SecretsRewrapped(Event, frozen=True, kw_only=True):
    """envelopes: by the place of the secret in the noun's state."""

    since_format: ClassVar[tuple[int, ...]] = (2,)
    envelopes: dict[str, Sealed]


def with_rewrap(noun: Noun[S]) -> Noun[S]:
    """The noun, and what every noun with secrets can do beside it."""
    if noun.secrets is None:
        return noun
    secrets, decide, evolve = noun.secrets, noun.decide, noun.evolve
    rewrapped = _rewrapped(noun.name)

    def decided(state: S, command: Command) -> Sequence[Event]:
        if not isinstance(command, Rewrap):
            return decide(state, command)
        left = _still_held(secrets.held(state), command)
        names = sorted(left)
        pieces = (names[i : i + FIELDS_AN_EVENT] for i in range(0, len(names), FIELDS_AN_EVENT))
        return [rewrapped(envelopes={name: left[name] for name in piece}) for piece in pieces]

    def evolved(state: S, event: Any) -> S:
        if isinstance(event, SecretsRewrapped):
            return secrets.replaced(state, event.envelopes)
        return evolve(state, event)

    return replace(noun, events=(*noun.events, rewrapped), decide=decided, evolve=evolved)


@cache
def _rewrapped(noun: str) -> type[SecretsRewrapped]:
    """The event of one noun."""

    class Rewrapped(SecretsRewrapped, frozen=True, kw_only=True):
        kind: ClassVar[str] = f"{noun}.secrets.rewrapped"

    return Rewrapped


def _still_held(held: Mapping[str, Sealed | str], command: Rewrap) -> dict[str, Sealed]:
    return {name: new for name, (old, new) in command.envelopes.items() if held.get(name) == old}
