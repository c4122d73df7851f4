"""upgrade: two controllers that run different versions, and the step after which there is no way back."""

from middlewared.plugin import Plugin

from .api import METHODS

plugin = Plugin(name="upgrade", methods=METHODS)
