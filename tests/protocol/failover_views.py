"""Views of the pair, for the tests of who is active: an owner, one that stands by, and what they see."""

from __future__ import annotations

import msgspec

from middlewared.kernel.facts import Node
from middlewared.protocol.failover_view import View, Windows
from middlewared.protocol.hub import Heard, PeerWord, Settings, VoterState

NOW = 1000.0
LONG_AGO = NOW - 100.0
DISKS = ("0", "1", "2")


def settings(**changes: object) -> Settings:
    usual = Settings(
        paired=True,
        cluster_id="c",
        key=b"k",
        disabled=False,
        default_node="A",
        timeout_s=2.0,
        single_term=1,
        vips=(),
    )
    return msgspec.structs.replace(usual, **changes)


def word(**changes: object) -> PeerWord:
    """An idle, healthy peer."""
    usual = PeerWord(boot_id="b", term=4, owner=False, links_up=True, hears_us=True, settled=True, resigned=False)
    return msgspec.structs.replace(usual, **changes)


def heard(interlink: float | None, advert: float | None, peer: PeerWord | None = None, **changes: object) -> Heard:
    """Ages in seconds, None: never."""
    usual = Heard(
        since=LONG_AGO,
        interlink_at=None if interlink is None else NOW - interlink,
        advert_at=None if advert is None else NOW - advert,
        carrier=True,
        carrier_since=LONG_AGO,
        links_up=True,
        links_since=LONG_AGO,
        peer=peer,
    )
    return msgspec.structs.replace(usual, **changes)


def disks(*owners: Node | None, term: int = 5) -> tuple[VoterState, ...]:
    return tuple(
        VoterState(name=name, reachable=True, term=term, owner=owner) for name, owner in zip(DISKS, owners, strict=True)
    )


def unreadable(states: tuple[VoterState, ...], count: int) -> tuple[VoterState, ...]:
    return tuple(msgspec.structs.replace(state, reachable=n >= count) for n, state in enumerate(states))


def view(**changes: object) -> View:
    """B, long settled, standing by behind a healthy owner A of term 5."""
    usual = View(
        node="B",
        windows=Windows(),
        settings=settings(),
        booted_at=LONG_AGO,
        settled=True,
        owns=False,
        term=5,
        confirmed_at=None,
        owned_term=0,
        begins=False,
        forced=False,
        resigned_at=None,
        voters=disks("A", "A", "A"),
        heard=heard(0.02, 0.02, word(owner=True, term=5)),
        heard_since=LONG_AGO,
        disk_at=NOW - 0.05,
        disk_since=LONG_AGO,
        peer_idle_since=None,
    )
    return msgspec.structs.replace(usual, **changes)


def owner(**changes: object) -> View:
    """A, owner of term 5, with a healthy B standing by."""
    usual = view(
        node="A",
        owns=True,
        owned_term=5,
        confirmed_at=NOW - 0.05,
        heard=heard(0.02, None, word()),
        disk_at=None,
        disk_since=None,
        peer_idle_since=LONG_AGO,
        peer_sees_since=LONG_AGO,
    )
    return msgspec.structs.replace(usual, **changes)


def silent(age_s: float, **changes: object) -> View:
    """B; every sign of A is `age_s` old."""
    return view(**{"heard": heard(age_s, age_s, word(owner=True, term=5)), "disk_at": NOW - age_s} | changes)


def idle(**changes: object) -> View:
    """B, with A there, and nobody owns: the disks are free."""
    usual = {
        "voters": disks(None, None, None),
        "heard": heard(0.02, None, word()),
        "disk_at": LONG_AGO,
        "peer_idle_since": NOW - 1,
    }
    return view(**usual | changes)
