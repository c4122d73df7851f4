"""network: names, name servers, gateways, and the virtual address."""

from middlewared.plugin import Plugin

from . import configuration, vip
from .api import METHODS
from .effects import EFFECTS

plugin = Plugin(name="network", nouns=(configuration.NOUN, vip.NOUN), methods=METHODS, effects=EFFECTS)
