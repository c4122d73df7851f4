"""failover: settings of the pair, and the truth about it."""

from middlewared.plugin import Announcement, Plugin

from . import aside, outlook, quarantine, settings, state, succession, voters, voters_api
from .api import METHODS
from .effects import EFFECTS

plugin = Plugin(
    name="failover",
    nouns=(settings.NOUN, quarantine.NOUN, voters.NOUN),
    methods=METHODS + outlook.METHODS + aside.METHODS + succession.METHODS + state.METHODS + voters_api.METHODS,
    peer=aside.PEER_METHODS + outlook.PEER_METHODS + succession.PEER_METHODS + voters_api.PEER_METHODS,
    effects=EFFECTS,
    duties=aside.DUTIES + voters_api.DUTIES,
    needs=("network.vip.config", "interface.failover_groups"),
    announces=(
        Announcement(collection="failover.status", query="failover.status", field="status"),
        Announcement(
            collection="failover.disabled.reasons", query="failover.disabled.reasons", field="disabled_reasons"
        ),
        Announcement(
            collection="failover.disabled.details", query="failover.disabled.details", field="disabled_details"
        ),
        # What goes on all the time is told with what changes: role, reasons, steps of a handover.
        Announcement(
            collection="failover.state",
            query="failover.state",
            field="state",
            ignores=("since_s", "last_heard_ms", "log"),
            pause_s=0.1,
        ),
        # Seqs move with every write: four times a second is enough for people. How long it lasts is not news.
        Announcement(
            collection="failover.sync.status",
            query="failover.sync.status",
            field="sync_status",
            ignores=("lag_ms",),
            pause_s=0.25,
        ),
    ),
)
