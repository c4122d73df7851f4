"""audit: who did what, from where, and what it changed; of both controllers."""

from middlewared.plugin import Plugin

from .api import METHODS, PEER

plugin = Plugin(name="audit", methods=METHODS, peer=PEER)
