"""The conditions of the rules of failover.py, in the order of its table: each says why it holds, or None."""

from __future__ import annotations

from middlewared.protocol.failover_view import MOVES, Situation


def unconfigured(s: Situation) -> str | None:
    return "no settings have come from middlewared yet" if s.view.settings is None else None


def single(s: Situation) -> str | None:
    assert s.view.settings is not None
    return None if s.view.settings.paired else "this controller was never paired"


# An owner


def deposed(s: Situation) -> str | None:
    if not s.view.owns:
        return None
    if s.held_by(s.peer):
        return f"{s.peer} holds a majority of the disks"
    if s.word is None or not s.word.owner:
        return None
    if s.word.term > s.view.term:
        return f"{s.peer} owns the higher term {s.word.term}"
    if s.word.term == s.view.term and not s.view.voters and s.me == "B":
        return f"both were forced into term {s.view.term}, and B yields"
    return None


def forced(s: Situation) -> str | None:
    if not s.view.forced or s.view.owns:
        return None
    unfenced = "" if s.view.voters else "; there are no shared disks, so nothing fences the peer"
    return f"an operator forces this controller to be active{unfenced}"


def cut_off(s: Situation) -> str | None:
    """An owner that cannot confirm its term may have been replaced; only a peer that is there and idle keeps it."""
    if not s.view.owns or not s.view.voters:
        return None
    since = s.view.confirmed_at
    if since is not None and s.now - since <= s.view.windows.lease_s:
        return None
    unconfirmed = f"the disks have not confirmed the term for {s.view.windows.lease_s:g} s"
    if not s.signs:
        return f"{unconfirmed} and {s.peer} is not heard"
    if s.word is None and "adverts" in s.signs:
        return f"{unconfirmed} and {s.peer} advertises, which only an owner does"
    return None


def begins(s: Situation) -> str | None:
    if not (s.view.owns and s.view.begins) or (s.view.voters and not s.readable):
        return None
    return "middlewared began anew, and its writes need a term of their own"


def regains(s: Situation) -> str | None:
    if not s.view.owns or not s.readable:
        return None
    if s.overtaken:
        return f"a shared disk is {s.peer}'s in term {s.view.term}, or has a later one, and refuses this controller"
    if s.majority(s.mine):
        return None
    return f"only {len(s.mine)} of {len(s.view.voters)} disks hold term {s.view.term}, and {s.peer} has no majority"


def flapping(s: Situation) -> str | None:
    better_there = pool_lost(s) or link_lost(s)
    if better_there is None or not (s.flapping or (s.word is not None and s.word.flapping)):
        return None
    return (
        f"{better_there}, but the term went from one controller to the other {MOVES} times "
        f"in {s.view.windows.moves_s / 60:g} minutes"
    )


def pool_lost(s: Situation) -> str | None:
    why = s.view.fault or _disks_lost(s)
    if not _may_hand_over(s) or why is None:
        return None
    assert s.word is not None
    if s.links_up and not s.word.links_up:
        return None
    return f"{why}; {s.peer} sees its disks"


def _disks_lost(s: Situation) -> str | None:
    """A shelf that stalls is lost to both, and may come back to the peer first."""
    since, sees_since = s.view.confirmed_at, s.view.peer_sees_since
    lost_s = 2 * s.view.windows.lease_s
    if sees_since is None or s.now - sees_since <= lost_s or (since is not None and s.now - since <= lost_s):
        return None
    return f"the disks have not confirmed the term for {lost_s:g} s"


def link_lost(s: Situation) -> str | None:
    heard = s.view.heard
    if not _may_hand_over(s) or heard is None or heard.links_up or s.now - heard.links_since < s.timeout_s:
        return None
    if s.word is None or not s.word.links_up:
        return None
    return f"a network with a virtual IP is lost here for {s.timeout_s:g} s and is up at {s.peer}"


def _may_hand_over(s: Situation) -> bool:
    """An owner of shared disks, failover enabled, and a peer that would take the term at once."""
    settings = s.view.settings
    return s.view.owns and bool(s.view.voters) and settings is not None and not settings.disabled and s.peer_ready


def owns(s: Situation) -> str | None:
    if not s.view.owns:
        return None
    if not s.view.voters:
        return f"term {s.view.term} was forced; there are no shared disks, so nothing fences the peer"
    return f"this controller holds term {s.view.term}"


# No owner: what holds it back or lets it go on where it was


def resumes(s: Situation) -> str | None:
    if not s.view.owned_term or s.held_by(s.peer) or (s.word is not None and s.word.owner):
        return None
    if s.view.voters and not s.held_by(s.me):
        return None
    return f"this controller owned term {s.view.owned_term} in this boot and nobody took it"


def voterless(s: Situation) -> str | None:
    return None if s.view.voters else "paired without shared disks: only failover.force_master claims"


def disabled(s: Situation) -> str | None:
    return "failover is disabled" if s.view.settings is not None and s.view.settings.disabled else None


def peer_resigned(s: Situation) -> str | None:
    if s.word is None or not s.word.resigned or s.word.owner or not s.links_up or not s.readable or not s.able:
        return None
    return f"{s.peer} gave its term up for this controller to take"


def peer_owns(s: Situation) -> str | None:
    return f"{s.peer} owns: {', '.join(s.owner_signs)}" if s.owner_signs else None


def ended_often(s: Situation) -> str | None:
    if not s.view.ended_often:
        return None
    return "this controller ended itself three times in ten minutes; only failover.force_master lets it claim"


def promotion_failed(s: Situation) -> str | None:
    if not s.failing:
        return None
    assert s.view.failed_at is not None
    return f"a promotion failed here {s.now - s.view.failed_at:.0f} s ago; {s.peer} is to try first"


def resigned(s: Situation) -> str | None:
    if s.view.resigned_at is None or s.now - s.view.resigned_at >= s.view.windows.resign_s:
        return None
    if s.gone and not s.failed:
        return None
    return f"this controller gave its term up {s.now - s.view.resigned_at:.1f} s ago for {s.peer} to take"


def booting(s: Situation) -> str | None:
    if s.settled:
        return None
    return f"{s.peer} was not heard since boot; it is waited for until {s.view.windows.settle_s:g} s after it"


def unreadable(s: Situation) -> str | None:
    if s.readable:
        return None
    return f"only {len(s.reachable)} of {len(s.view.voters)} disks can be read"


# Both are there and none owns


def own_key(s: Situation) -> str | None:
    if s.word is None or not s.held_by(s.me):
        return None
    return f"the disks are reserved for this controller since before its boot, and {s.peer} does not own"


def nobody_for_long(s: Situation) -> str | None:
    idle_since = s.view.peer_idle_since
    if s.word is None or idle_since is None or s.now - idle_since < s.view.windows.settle_s:
        return None
    return f"both are there and nobody owned for {s.view.windows.settle_s:g} s"


def peer_key(s: Situation) -> str | None:
    if s.word is None or not s.held_by(s.peer) or not s.peer_able:
        return None
    return f"the disks are reserved for {s.peer}, which is there and may resume"


def preferred(s: Situation) -> str | None:
    return "both are there, none owns, and this controller is preferred" if s.word is not None and s.preferred else None


def other_preferred(s: Situation) -> str | None:
    return f"both are there, none owns, and {s.peer} is preferred" if s.word is not None else None


# The peer is not heard on the interlink


def gone_without_carrier(s: Situation) -> str | None:
    if not s.gone or s.view.heard is None or s.view.heard.carrier:
        return None
    return f"{s.peer} is silent on all channels and the interlink has no carrier"


def gone_and_held(s: Situation) -> str | None:
    if not s.gone or s.silent_s < s.view.windows.held_s:
        return None
    return f"{s.peer} is silent on all channels for {s.silent_s:.2f} s"


def not_gone(s: Situation) -> str:
    if s.last_signs is None:
        return f"{s.peer} cannot be heard here on every channel, which is no sign of its death"
    return f"{s.peer} was heard {s.silent_s:.2f} s ago, which is not long enough to call it gone"
