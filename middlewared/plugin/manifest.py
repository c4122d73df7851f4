"""What a plugin brings, as one value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from middlewared.plugin.calls import (
    DutyCall,
    View,
)
from middlewared.plugin.facts import AlertSource
from middlewared.plugin.methods import Announcement, Method, PeerMethod
from middlewared.plugin.noun import Noun


@dataclass(frozen=True, kw_only=True)
class Duty:
    """What the owner does by itself, by commands: level-triggered, as effects are, and undone by nobody's crash.

    Run every `every_s` seconds, on the controller that may write and only there; `run` finds out what is left to do.
    """

    name: str
    run: Callable[[DutyCall], Awaitable[None]]
    every_s: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Make the world outside equal to the state of the watched nouns, whatever it was before.

    Run on each controller for itself: at start, after every committed change of a watched noun, and again each
    `retry_s` while it fails. `reconcile` raises PortFailed; the failure is status, shown until it is mended.
    """

    name: str
    watches: tuple[str, ...]
    reconcile: Callable[[View], Awaitable[None]]
    retry_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """The manifest.

    needs: methods of other plugins that this one queries. peer: what the other controller may ask. events: collections
    that it fills itself; announces: those that are the answer of a query.
    """

    name: str
    nouns: tuple[Noun[Any], ...] = ()
    methods: tuple[Method, ...] = ()
    peer: tuple[PeerMethod, ...] = ()
    effects: tuple[Effect, ...] = ()
    duties: tuple[Duty, ...] = ()
    needs: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    announces: tuple[Announcement, ...] = ()
    alerts: tuple[AlertSource, ...] = ()
