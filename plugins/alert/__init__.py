"""alert: what an operator must know, of this controller and of the other."""

from middlewared.plugin import Announcement, Plugin

from .api import METHODS
from .sources import SOURCES

plugin = Plugin(
    name="alert",
    methods=METHODS,
    announces=(Announcement(collection="alert.list", query="alert.list"),),
    alerts=SOURCES,
)
