"""Interlink heartbeats: what each controller says of itself to the other, each `heartbeat_ms`, by UDP.

    "MWH1" | tag of the cluster 8 | body (msgpack of Beat) | HMAC-SHA256 over all before it, cut to 16 bytes

Each beat carries the sender's boot id and counter (milliseconds since boot, so that it rises across restarts of the
process) and echoes the last counter that it heard of us.

Rules:
1. A beat of another cluster, with a wrong code, or of the wrong controller is refused.
2. Within one boot of the peer the counter must rise over the last one accepted: a replay is refused.
3. Another boot id than the one last accepted is believed only when the beat proves that it is fresh: it echoes a
   counter of *our* present boot that is younger than `dead_s`. A recording of an earlier boot cannot do that. Until
   then the beat is only echoed, which is what lets an honest peer prove itself with its next one.
4. `hears_us`: the echo names our present boot and a counter younger than `dead_s`; both directions work.

The echo is of the peer that is believed while that one is alive, else of the last one that was heard. Somebody on the
interlink who floods it with recordings can delay rule 3, not deceive it. Nothing here is secret; nothing is encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from enum import Enum

import msgspec

from middlewared.kernel.facts import Node, other
from middlewared.protocol import hub

MAX_SIZE = 512
_MAGIC = b"MWH1"
_TAG_SIZE = 8
_CODE_SIZE = 16


class Fault(Enum):
    """Why a datagram is refused, in the order of the checks."""

    FORM = "not a heartbeat"
    CLUSTER = "another cluster"
    CODE = "bad authentication code"
    NODE = "not from the peer"
    REPLAY = "counter does not rise"
    UNPROVEN = "not proven to be of the present"


class Echo(msgspec.Struct, frozen=True, array_like=True):
    """The last counter that was heard of the other side, and of which boot."""

    boot_id: str
    counter: int


class Word(msgspec.Struct, frozen=True, array_like=True):
    """What a controller says of itself; the fields of hub.PeerWord that it can know.

    New ones come at the end and with a default: the other version leaves them out, or does not read them.
    """

    term: int
    owner: bool
    links_up: bool
    settled: bool
    resigned: bool
    disks_ok: bool = True
    failed: bool = False
    held: bool = False
    flapping: bool = False
    voting: int = 0


SILENT_WORD = Word(term=0, owner=False, links_up=True, settled=False, resigned=False)


class Beat(msgspec.Struct, frozen=True, array_like=True):
    node: Node
    boot_id: str
    counter: int
    echo: Echo | None
    word: Word


class Seal:
    """The cluster's stamp. key: for heartbeats alone (protocol/keys.py)."""

    def __init__(self, cluster_id: str, key: bytes) -> None:
        self._head = _MAGIC + hashlib.sha256(cluster_id.encode()).digest()[:_TAG_SIZE]
        self._key = key

    def close(self, beat: Beat) -> bytes:
        said = self._head + msgspec.msgpack.encode(beat)
        return said + self._code(said)

    def open(self, datagram: bytes) -> Beat | Fault:
        size = len(self._head)
        if not size + _CODE_SIZE < len(datagram) <= MAX_SIZE or not datagram.startswith(_MAGIC):
            return Fault.FORM
        if not datagram.startswith(self._head):
            return Fault.CLUSTER
        said, code = datagram[:-_CODE_SIZE], datagram[-_CODE_SIZE:]
        if not hmac.compare_digest(code, self._code(said)):
            return Fault.CODE
        try:
            return _decode(said[size:])
        except msgspec.DecodeError:
            return Fault.FORM

    def _code(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, "sha256")[:_CODE_SIZE]


_decode = msgspec.msgpack.Decoder(Beat).decode


class HeartbeatMachine:
    """Both directions of the interlink, as one controller sees them.

    node, boot_id: of this controller. beat_s: how often to speak; dead_s: how old an echo may be. now: CLOCK_BOOTTIME.
    After `receive` returned a word, the peer was heard at that moment.
    """

    def __init__(self, node: Node, boot_id: str, seal: Seal, beat_s: float, dead_s: float) -> None:
        self._peer = other(node)
        self._node: Node = node
        self._boot_id = boot_id
        self._seal = seal
        self._beat_s = beat_s
        self._dead_s = dead_s
        self._due = 0.0
        self._sent = 0
        self._believed: Beat | None = None
        self._last: Beat | None = None
        self.heard_at: float | None = None
        self.refused: Counter[str] = Counter()

    def deadline(self) -> float:
        """When `speak` is due."""
        return self._due

    def hurry(self) -> None:
        """There is news: `speak` is due now."""
        self._due = 0.0

    def speak(self, word: Word, now: float) -> bytes:
        """The datagram to send now. The next is due one interval after this one was; lost ones are not made up for."""
        self._due = max(self._due + self._beat_s, now + self._beat_s / 2)
        self._sent = max(int(now * 1000), self._sent + 1)
        alive = self.heard_at is not None and now - self.heard_at < self._dead_s
        source = self._believed if alive else self._last
        echo = Echo(source.boot_id, source.counter) if source is not None else None
        return self._seal.close(Beat(self._node, self._boot_id, self._sent, echo, word))

    def receive(self, datagram: bytes, now: float) -> hub.PeerWord | None:
        """What the peer says; None when the datagram was refused (counted in `refused`)."""
        beat = self._seal.open(datagram)
        if isinstance(beat, Fault):
            self.refused[beat.value] += 1
            return None
        fault = self._fault_of(beat, now)
        if fault in (None, Fault.UNPROVEN):
            self._last = beat
        if fault is not None:
            self.refused[fault.value] += 1
            return None
        self._believed = beat
        self.heard_at = now
        word = beat.word
        return hub.PeerWord(
            boot_id=beat.boot_id,
            term=word.term,
            owner=word.owner,
            links_up=word.links_up,
            hears_us=self._is_fresh(beat.echo, now),
            settled=word.settled,
            resigned=word.resigned,
            disks_ok=word.disks_ok,
            failed=word.failed,
            held=word.held,
            flapping=word.flapping,
            voting=word.voting,
        )

    def _fault_of(self, beat: Beat, now: float) -> Fault | None:
        if beat.node != self._peer:
            return Fault.NODE
        if self._believed is not None and beat.boot_id == self._believed.boot_id:
            return Fault.REPLAY if beat.counter <= self._believed.counter else None
        return None if self._is_fresh(beat.echo, now) else Fault.UNPROVEN

    def _is_fresh(self, echo: Echo | None, now: float) -> bool:
        if echo is None or echo.boot_id != self._boot_id:
            return False
        age_s = now - echo.counter / 1000
        # A counter may run ahead of the clock by a beat, because it rises at every beat.
        return -self._beat_s <= age_s < self._dead_s
