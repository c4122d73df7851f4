"""Ask for an address each millisecond and say when nobody answered, and who did.

    python -m middlewared.lab.probe INTERFACE ADDRESS [--gap-ms 3]

Run in the client's namespace; needs CAP_NET_RAW. A child sends ICMP echo requests, the parent reads the replies from an
AF_PACKET socket with the kernel's time of arrival (SO_TIMESTAMPNS, realtime clock), so a late reader changes no figure.
Both run under SCHED_FIFO where that is allowed. Controllers that share a virtual MAC are told apart by the TTL of the
reply: watch.py sets net.ipv4.ip_default_ttl to another value on each. See icmp(7), packet(7), socket(7).

Each line on stdout is a `Line` as JSON, in the order of the replies: at the first reply, at a change of TTL, after
a gap of at least `gap_ms`; and each 100 ms one that says how it stands.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from ipaddress import IPv4Address

import msgspec

PERIOD_NS = 1_000_000
SAY_EACH_NS = 100_000_000
_PRIORITY = 60

# linux/if_packet.h, asm-generic/socket.h; Python does not name these.
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_SO_TIMESTAMPNS = 35
_ETH_P_IP = 0x0800
_ETHERNET_LENGTH = 14
_ECHO_REPLY, _ECHO_REQUEST = 0, 8

_PR_SET_PDEATHSIG = 1


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What is told. Times are nanoseconds of the realtime clock.

    at_ns: this reply; before_ns: the one before. ttl, before_ttl: of these replies. counts: replies so far, by TTL.
    """

    why: str
    at_ns: int
    before_ns: int
    ttl: int
    before_ttl: int
    counts: dict[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("interface")
    parser.add_argument("address", type=IPv4Address)
    parser.add_argument("--gap-ms", type=float, default=3.0)
    args = parser.parse_args()
    ident = os.getpid() & 0xFFFF
    replies = open_packet_socket(args.interface)
    sender = os.fork()
    if sender == 0:
        send_for_ever(str(args.address), ident)
    try:
        run_in_real_time()
        listen(replies, args.address.packed, ident, int(args.gap_ms * 1e6))
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        os.kill(sender, signal.SIGKILL)


def run_in_real_time() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        print("probe: SCHED_FIFO is not allowed here; gaps may be the probe's own", file=sys.stderr)


def open_packet_socket(interface: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
    packets.bind((interface, _ETH_P_IP))
    packets.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    packets.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return packets


def send_for_ever(address: str, ident: int) -> None:
    """One echo request each period, on time; periods that were missed are left out."""
    die_with_parent()
    run_in_real_time()
    requests = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    number, due = 0, time.monotonic_ns()
    while True:
        number = (number + 1) & 0xFFFF
        # An error says that nobody answered ARP for a while: the silence is what is measured.
        with contextlib.suppress(OSError):
            requests.sendto(echo_request(ident, number), (address, 0))
        now = time.monotonic_ns()
        due = max(due + PERIOD_NS, now - now % PERIOD_NS)
        time.sleep(max(0, due - now) / 1e9)


def die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def echo_request(ident: int, number: int) -> bytes:
    """RFC 792. The checksum of so short a message is worked out by hand (RFC 1071)."""
    total = (_ECHO_REQUEST << 8) + ident + number
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, ~(total + (total >> 16)) & 0xFFFF, ident, number)


def ttl_of_reply(frame: bytes, address: bytes, ident: int) -> int | None:
    """The TTL, if the frame is an echo reply from `address` to us."""
    at = _ETHERNET_LENGTH
    icmp = at + (frame[at] & 0xF) * 4
    if frame[at + 9] != socket.IPPROTO_ICMP or frame[at + 12 : at + 16] != address or frame[icmp] != _ECHO_REPLY:
        return None
    return frame[at + 8] if frame[icmp + 4 : icmp + 6] == struct.pack("!H", ident) else None


def listen(replies: socket.socket, address: bytes, ident: int, gap_ns: int) -> None:
    counts: dict[int, int] = {}
    before_ns = before_ttl = said_ns = 0
    while True:
        frame, ancillary, _, _ = replies.recvmsg(2048, 64)
        ttl = ttl_of_reply(frame, address, ident)
        if ttl is None:
            continue
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        at_ns = seconds * 1_000_000_000 + nanoseconds
        counts[ttl] = counts.get(ttl, 0) + 1
        why = reason(ttl, before_ttl, at_ns - before_ns, gap_ns) or ("still" if at_ns - said_ns >= SAY_EACH_NS else "")
        if why:
            line = Line(why=why, at_ns=at_ns, before_ns=before_ns, ttl=ttl, before_ttl=before_ttl, counts=counts)
            print(msgspec.json.encode(line).decode(), flush=True)
            said_ns = at_ns
        before_ns, before_ttl = at_ns, ttl


def reason(ttl: int, before_ttl: int, silence_ns: int, gap_ns: int) -> str:
    if not before_ttl:
        return "first"
    if ttl != before_ttl:
        return "owner"
    return "gap" if silence_ns >= gap_ns else ""


if __name__ == "__main__":
    main()
