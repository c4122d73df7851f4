"""The manifest of `core`: what every client asks before anything else."""

from __future__ import annotations

from middlewared.plugin import Plugin

from . import api, jobs

plugin = Plugin(name="core", methods=(*api.METHODS, *jobs.METHODS), peer=jobs.PEER, events=("core.get_jobs",))
