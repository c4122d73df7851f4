"""log: is the log of either controller what was written?"""

from middlewared.plugin import Plugin

from .api import METHODS

plugin = Plugin(name="log", methods=METHODS)
