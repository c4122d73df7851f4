"""Floods a LAN with CARP frames that must do nothing; run in the lab's client by bench/carp_flood.py.

    python carp_sender.py INTERFACE COUNT FRAMES_PER_S SEED

It first listens for the adverts of the pair, because the worst that somebody without the key can do is to send them
again: as they were, with advskew and advbase 0, with any bit turned. Prints JSON {kind: how many were sent}.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from collections import Counter

from middlewared.protocol.carp_packet import checksum
from middlewared.protocol.ethernet import advert

_ETH_P_IP = 0x0800
_LISTEN_S = 1.0
_PAUSE_S = 0.001
_PAYLOAD = 34
"""Where the CARP part of a frame begins."""
_THEIRS = "192.0.2.77"


def main() -> None:
    interface, count, per_s, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP)) as wire:
        wire.bind((interface, _ETH_P_IP))
        recorded = _record(wire)
        makers = (_replayed, _advskew_forged, _turned, _signed_by_another, _random)
        prepared = [(make.__name__.strip("_"), make(chance, recorded)) for _ in range(4000) for make in makers]
        print(json.dumps(_send(wire, prepared, count, per_s)))


def _record(wire: socket.socket) -> list[bytes]:
    wire.settimeout(_LISTEN_S)
    end, found = time.monotonic() + _LISTEN_S, []
    while time.monotonic() < end:
        frame = wire.recv(2048)
        if len(frame) >= 70 and frame[23] == 112:
            found.append(frame[:70])
    return found


def _send(wire: socket.socket, frames: list[tuple[str, bytes]], count: int, per_s: int) -> Counter[str]:
    """At an even pace: what is due each millisecond, and what was missed with it."""
    sent: Counter[str] = Counter()
    start, done = time.monotonic(), 0
    while done < count:
        due = min(count, int((time.monotonic() - start) * per_s))
        for number in range(done, due):
            kind, frame = frames[number % len(frames)]
            wire.send(frame)
            sent[kind] += 1
        done = max(done, due)
        time.sleep(_PAUSE_S)
    return sent


def _replayed(chance: random.Random, recorded: list[bytes]) -> bytes:
    return _from_elsewhere(chance.choice(recorded)[_PAYLOAD:])


def _advskew_forged(chance: random.Random, recorded: list[bytes]) -> bytes:
    carp = bytearray(chance.choice(recorded)[_PAYLOAD:])
    carp[2] = carp[5] = 0
    return _from_elsewhere(_summed(carp))


def _turned(chance: random.Random, recorded: list[bytes]) -> bytes:
    """Up to three bits turned; half of them with the sum made right again, so that only the key can tell."""
    carp = bytearray(chance.choice(recorded)[_PAYLOAD:])
    for _ in range(chance.randint(1, 3)):
        carp[chance.randrange(36)] ^= 1 << chance.randrange(8)
    return _from_elsewhere(_summed(carp) if chance.random() < 0.5 else bytes(carp))


def _signed_by_another(chance: random.Random, recorded: list[bytes]) -> bytes:
    """The counter of a far term, and a code that is none: all but the last check lets it through."""
    carp = bytearray(chance.choice(recorded)[_PAYLOAD:])
    carp[8:16] = (chance.randint(1, 2**23) << 40 | chance.getrandbits(40)).to_bytes(8)
    carp[16:36] = chance.randbytes(20)
    return _from_elsewhere(_summed(carp))


def _random(chance: random.Random, recorded: list[bytes]) -> bytes:
    return _from_elsewhere(chance.randbytes(chance.randint(0, 60)))


def _summed(carp: bytearray) -> bytes:
    carp[6:8] = b"\0\0"
    carp[6:8] = checksum(bytes(carp)).to_bytes(2)
    return bytes(carp)


def _from_elsewhere(carp: bytes) -> bytes:
    """A controller's kernel drops what claims to come from its own address, so neither's is used."""
    vhid = carp[1] if len(carp) > 1 else 0
    return advert(vhid, _THEIRS, carp)


if __name__ == "__main__":
    main()
