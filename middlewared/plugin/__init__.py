"""What a plugin imports: the manifest and the decorators. Nothing here does anything by itself.

A plugin is a package with a `plugin = Plugin(...)` and an entry point in the group `middlewared.plugins`; the product's
own plugins come the same way. Its noun files are pure and read top to bottom: state, commands, events, decide, evolve,
table, project. What touches the world outside stands in `effects.py`, level-triggered from the projected state.
"""

from __future__ import annotations

from middlewared.plugin.calls import (
    Aside,
    Call,
    Controller,
    DutyCall,
    JobCall,
    Outlook,
    PeerCall,
    SessionView,
    Subscribed,
    Succession,
    TailFold,
    View,
)
from middlewared.plugin.facts import Alert, AlertLevel, AlertSource, ControllerFacts, Difference, PeerBuild
from middlewared.plugin.manifest import Duty, Effect, Plugin
from middlewared.plugin.methods import Announcement, Handler, Kind, Method, PeerMethod, command, job, local, peer, query
from middlewared.plugin.noun import Command, Noun, Rewrap, Row, Secrets

__all__ = [
    "Alert",
    "AlertLevel",
    "AlertSource",
    "Announcement",
    "Aside",
    "Call",
    "Command",
    "Controller",
    "ControllerFacts",
    "Difference",
    "Duty",
    "DutyCall",
    "Effect",
    "Handler",
    "JobCall",
    "Kind",
    "Method",
    "Noun",
    "Outlook",
    "PeerBuild",
    "PeerCall",
    "PeerMethod",
    "Plugin",
    "Rewrap",
    "Row",
    "Secrets",
    "SessionView",
    "Subscribed",
    "Succession",
    "TailFold",
    "View",
    "command",
    "job",
    "local",
    "peer",
    "query",
]
