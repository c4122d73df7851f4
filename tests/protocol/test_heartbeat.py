"""Heartbeats of the interlink: two machines that speak to each other, and whoever is between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel.facts import Node
from middlewared.protocol.heartbeat import SILENT_WORD, Beat, Echo, HeartbeatMachine, Seal, Word

KEY = b"k" * 32
SEAL = Seal("cluster-1", KEY)
OWNER = Word(term=7, owner=True, links_up=True, settled=True, resigned=False)
BOOT = {"A": "boot-a", "B": "boot-b"}


def machine(node: Node, boot_id: str | None = None, seal: Seal = SEAL) -> HeartbeatMachine:
    return HeartbeatMachine(node, boot_id or BOOT[node], seal, beat_s=0.05, dead_s=0.15)


def talk(one: HeartbeatMachine, two: HeartbeatMachine, since: float, until: float) -> float:
    """Both speak each 50 ms, one 20 ms after the other, and hear at once. Returns the time of the last beat."""
    now = since
    while now < until:
        two.receive(one.speak(OWNER, now), now)
        one.receive(two.speak(SILENT_WORD, now + 0.02), now + 0.02)
        now += 0.05
    return now


def test_two_that_just_started_believe_each_other_within_two_beats() -> None:
    a, b = machine("A"), machine("B")
    assert b.receive(a.speak(OWNER, 10.0), 10.0) is None
    word = a.receive(b.speak(SILENT_WORD, 10.02), 10.02)
    assert word is not None
    assert word.hears_us
    heard = b.receive(a.speak(OWNER, 10.05), 10.05)
    assert heard is not None
    assert (heard.term, heard.owner, heard.boot_id, heard.hears_us) == (7, True, "boot-a", True)
    assert b.refused == {"not proven to be of the present": 1}


def test_a_replayed_beat_is_refused_and_counted() -> None:
    a, b = machine("A"), machine("B")
    now = talk(a, b, 10.0, 10.5)
    beat = a.speak(OWNER, now)
    assert b.receive(beat, now) is not None
    heard_at = b.heard_at
    assert b.receive(beat, now + 1) is None
    assert b.heard_at == heard_at
    assert b.refused["counter does not rise"] == 1


def test_a_recording_of_an_earlier_boot_is_not_believed_even_by_one_that_just_started() -> None:
    a, b = machine("A", "boot-a-old"), machine("B")
    now = talk(a, b, 10.0, 10.5)
    recorded = [a.speak(OWNER, now + n / 20) for n in range(5)]
    fresh = machine("B")
    assert [fresh.receive(beat, now + 100 + n / 20) for n, beat in enumerate(recorded)] == [None] * 5
    assert fresh.heard_at is None


def test_a_recording_of_an_earlier_boot_does_not_displace_the_peer_that_is_alive() -> None:
    old, b = machine("A", "boot-a-old"), machine("B")
    now = talk(old, b, 10.0, 10.5)
    recorded = old.speak(OWNER, now)
    a = machine("A")
    now = talk(a, b, now + 1, now + 1.5)
    assert b.receive(recorded, now) is None
    word = a.receive(b.speak(SILENT_WORD, now), now)
    assert word is not None
    assert word.hears_us


def test_a_peer_that_rebooted_is_believed_again() -> None:
    a, b = machine("A"), machine("B")
    talk(a, b, 10.0, 10.5)
    again = machine("A", "boot-a-2")
    talk(again, b, 0.5 + 11.0, 11.8)
    assert b.heard_at is not None
    assert b.heard_at > 11.0


def test_a_restarted_process_of_the_same_boot_is_heard_with_its_first_beat() -> None:
    a, b = machine("A"), machine("B")
    now = talk(a, b, 10.0, 10.5)
    assert b.receive(machine("A").speak(OWNER, now + 0.3), now + 0.3) is not None


def test_hears_us_ends_when_only_one_direction_works() -> None:
    a, b = machine("A"), machine("B")
    now = talk(a, b, 10.0, 10.5)
    for _ in range(4):
        b.speak(SILENT_WORD, now)
        word = b.receive(a.speak(OWNER, now), now)
        now += 0.05
    assert word is not None
    assert not word.hears_us


def test_another_cluster_and_another_key_have_their_own_counts() -> None:
    b = machine("B")
    b.receive(machine("A", seal=Seal("cluster-2", KEY)).speak(OWNER, 1.0), 1.0)
    b.receive(machine("A", seal=Seal("cluster-1", b"other")).speak(OWNER, 1.0), 1.0)
    b.receive(machine("B").speak(OWNER, 1.0), 1.0)
    b.receive(b"hello", 1.0)
    assert b.refused == {
        "another cluster": 1,
        "bad authentication code": 1,
        "not from the peer": 1,
        "not a heartbeat": 1,
    }


def test_the_next_beat_is_due_one_interval_later_and_lost_ones_are_not_made_up_for() -> None:
    a = machine("A")
    a.speak(OWNER, 10.0)
    first = a.deadline()
    a.speak(OWNER, first)
    assert round(a.deadline() - first, 6) == 0.05
    a.speak(OWNER, 100.0)
    assert 100.0 < a.deadline() <= 100.05


@given(st.binary(max_size=600))
def test_no_bytes_without_the_key_are_believed(datagram: bytes) -> None:
    b = machine("B")
    assert b.receive(datagram, 1.0) is None
    assert b.heard_at is None


@given(st.integers(0, 8 * 100))
def test_one_flipped_bit_is_always_refused(bit: int) -> None:
    datagram = bytearray(SEAL.close(Beat("A", "boot-a", 5, Echo("boot-b", 990), OWNER)))
    datagram[bit // 8 % len(datagram)] ^= 1 << bit % 8
    b = machine("B")
    assert b.receive(bytes(datagram), 1.0) is None


def test_a_beat_is_small() -> None:
    boot_id = "01234567-89ab-cdef-0123-456789abcdef"
    assert len(SEAL.close(Beat("A", boot_id, 2**40, Echo(boot_id, 2**40), OWNER))) < 160
