"""Whether the log may go on in the newest format, and every reason why not.

A log that was raised cannot be read by the build before, on either controller. So it is raised when somebody says that
both stay, and only while the other controller is there to show that it can read what comes.
"""

from __future__ import annotations

from middlewared.kernel.event import LOG_FORMAT
from middlewared.plugin import ControllerFacts


def reasons(facts: ControllerFacts) -> list[str]:
    """What keeps the log from being raised now, in the order in which to mend it. Empty: nothing, or it is raised."""
    if facts.log_format >= LOG_FORMAT or not facts.paired:
        return []
    if facts.peer is None:
        why = facts.peer_apart or facts.peer_refused
        return ["the other controller is not connected" + (f": {why}" if why is not None else "")]
    table = (
        (
            f"the other controller runs {facts.peer.version or 'an older version'}, which reads log formats up to "
            f"{facts.peer.log_format_max}: upgrade it first",
            facts.peer.log_format_max < LOG_FORMAT,
        ),
        ("the other controller is not in sync", len(facts.in_sync) < 2),
        (f"the other controller applies nothing: {facts.peer_apply_blocked}", facts.peer_apply_blocked is not None),
    )
    return [sentence for sentence, holds in table if holds]


def pending(facts: ControllerFacts) -> bool:
    """Both controllers run this version, and the log still goes on in an older format."""
    return facts.log_format < LOG_FORMAT and not reasons(facts)
