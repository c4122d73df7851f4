"""What the peer is told, and what is kept of what it says."""

from __future__ import annotations

import msgspec

from middlewared.carpd.peer import Peer
from middlewared.config import BootFile
from middlewared.protocol import hub

SETTINGS = hub.Settings(
    paired=True,
    cluster_id="c",
    key=b"k" * 32,
    disabled=False,
    default_node="A",
    timeout_s=0.0,
    single_term=0,
    vips=(),
)
OWNER = hub.Standing(
    role="OWNER",
    term=5,
    since=0.0,
    said_at=0.0,
    why="",
    rule="R",
    record=None,
    voters=(),
    peer_interlink_at=None,
    peer_advert_at=None,
    peer_disk_at=None,
    settled=True,
    resigned=False,
    scheduling="",
)


def pair() -> tuple[Peer, Peer]:
    a, b = Peer(BootFile(node="A")), Peer(BootFile(node="B"))
    for peer in (a, b):
        peer.join(SETTINGS)
    return a, b


def tell(one: Peer, other: Peer, now: float, links_up: bool = True) -> None:
    datagram = one.speak(links_up, now)
    assert datagram is not None
    other.hear(datagram, now)


def test_the_peer_learns_what_fenced_said_here_and_whether_the_links_are_up() -> None:
    a, b = pair()
    a.standing = OWNER
    tell(b, a, 1.0)
    tell(a, b, 1.01, links_up=False)
    assert b.word is not None
    assert (b.word.owner, b.word.term, b.word.settled, b.word.links_up) == (True, 5, True, False)
    assert b.heard_at == 1.01


def test_without_a_standing_that_is_believed_nothing_is_claimed() -> None:
    a, b = pair()
    tell(b, a, 1.0)
    tell(a, b, 1.01)
    assert b.word is not None
    assert (b.word.owner, b.word.term, b.word.settled) == (False, 0, False)


def test_a_controller_that_was_never_paired_says_nothing() -> None:
    alone = Peer(BootFile(node="A"))
    assert alone.deadline() is None
    alone.join(msgspec.structs.replace(SETTINGS, paired=False))
    assert alone.speak(True, 1.0) is None
    alone.hear(b"anything", 1.0)
    assert alone.heard_at is None


def test_a_heartbeat_that_is_not_due_is_not_sent() -> None:
    a, _ = pair()
    assert a.speak(True, 1.0) is not None
    assert a.speak(True, 1.001) is None


def test_a_network_that_was_lost_is_said_at_once_and_only_once() -> None:
    a, _ = pair()
    a.speak(True, 1.0)
    a.hurry(True)
    assert a.speak(True, 1.001) is None
    a.hurry(False)
    assert a.speak(False, 1.002) is not None
    a.hurry(False)
    assert a.speak(False, 1.003) is None


def test_a_term_that_was_given_up_is_said_at_once_and_only_once() -> None:
    a, _ = pair()
    a.standing = OWNER
    a.speak(True, 1.0)
    a.standing = msgspec.structs.replace(OWNER, said_at=1.0, why="another sentence")
    a.hurry(True)
    assert a.speak(True, 1.001) is None
    a.standing = msgspec.structs.replace(OWNER, role="STANDBY", resigned=True)
    a.hurry(True)
    assert a.speak(True, 1.002) is not None
    a.hurry(True)
    assert a.speak(True, 1.003) is None


def test_a_refused_heartbeat_leaves_the_last_word() -> None:
    a, b = pair()
    tell(b, a, 1.0)
    tell(a, b, 1.01)
    word = b.word
    b.hear(b"noise", 1.02)
    assert b.word is word
