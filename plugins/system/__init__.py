"""system: what answers."""

from middlewared.plugin import Plugin

from .api import METHODS

plugin = Plugin(name="system", methods=METHODS, needs=("network.configuration.config",))
