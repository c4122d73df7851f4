"""system: what answers."""

from middlewared.plugin import Plugin

from . import secrets
from .api import METHODS
from .config import save

plugin = Plugin(
    name="system",
    methods=(*METHODS, *secrets.METHODS, save),
    peer=secrets.PEER,
    duties=secrets.DUTIES,
    needs=("network.configuration.config",),
)
