"""The manifest of `core`: what every client asks before anything else."""

from __future__ import annotations

from middlewared.plugin import Plugin

from .api import METHODS

plugin = Plugin(name="core", methods=METHODS, events=("core.get_jobs",))
