"""system: what answers."""

from middlewared.plugin import Plugin

from . import secrets
from .api import METHODS

plugin = Plugin(
    name="system",
    methods=(*METHODS, *secrets.METHODS),
    peer=secrets.PEER,
    duties=secrets.DUTIES,
    needs=("network.configuration.config",),
)
