"""Why failover is not available: a list of codes that clients know, in the order in which to mend them.

Codes of the field's clients where they have one; NOT_PAIRED, CONFIG_BEHIND, LOG_HALTED and
PEER_REFUSES are this product's own.
"""

from __future__ import annotations

from middlewared.plugin import ControllerFacts

# Until `system.license` exists there is one answer, given here.
LICENSED = True


def disabled_reasons(facts: ControllerFacts, *, disabled: bool, has_vip: bool) -> list[str]:
    """Empty when the standby could take over at this moment."""
    if not facts.paired:
        return ["NOT_PAIRED"]
    table = (
        ("NO_FAILOVER", disabled),
        ("NO_VIP", not has_vip),
        ("LOG_HALTED", facts.status == "ERROR"),
        ("CONFIG_BEHIND", facts.behind is not None),
        ("MISMATCH_VERSIONS", (facts.peer_apart or facts.apply_blocked or facts.peer_apply_blocked) is not None),
        ("NO_PONG", not facts.peer_heard),
        ("PEER_REFUSES", facts.peer_refused is not None),
        ("NO_SYSTEM_READY", facts.peer_heard and not facts.peer_connected and facts.peer_refused is None),
        ("NO_FENCED", facts.disks_ok * 2 <= facts.disks_total),
        ("NO_JOURNAL_SYNC", facts.peer_heard and facts.peer_connected and len(facts.in_sync) < 2),
    )
    return [code for code, holds in table if holds]
