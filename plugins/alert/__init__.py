"""alert: what an operator must know, of this controller and of the other."""

from middlewared.plugin import Announcement, Plugin

from .api import METHODS, PEER_METHODS
from .sources import SOURCES

plugin = Plugin(
    name="alert",
    methods=METHODS,
    peer=PEER_METHODS,
    # The other controller is asked each time.
    announces=(Announcement(collection="alert.list", query="alert.list", pause_s=0.5),),
    alerts=SOURCES,
)
