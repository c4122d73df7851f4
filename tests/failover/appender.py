"""Runs on a controller: appends numbered records to a file of a pool, and says each that is on the disks to a client.

    python appender.py MOUNT VIP NODE CLIENT PORT

It waits until the pool is mounted and the virtual IP is here, and again whenever one of them is gone. A record is
acknowledged by a datagram from the virtual IP, as a server on the controller would answer: a controller that lost the
address cannot say anything to a client any more. Standard library only, since it runs outside of the project.

Before each write the directory must still be the pool's: below a pool that is not mounted lies an ordinary directory.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path

RECORD = 24
"""Bytes of a record: `NUMBER NODE`, padded, and a line end."""
FILE = "numbers"
PAUSE_S = 0.002
LOOK_S = 0.002


class Gone(Exception):
    """The pool or the virtual IP is not here."""


def main() -> None:
    mount, vip, node, client, port = sys.argv[1:]
    while True:
        with contextlib.suppress(OSError, Gone):
            append(mount, vip, node, (client, int(port)))
        time.sleep(LOOK_S)


def append(mount: str, vip: str, node: str, client: tuple[str, int]) -> None:
    """Until something is gone. Raises OSError, Gone."""
    must_be_pool(mount)
    own(vip).close()
    file = os.open(f"{mount}/{FILE}", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    try:
        number = os.fstat(file).st_size // RECORD
        while True:
            with own(vip) as answers:
                if os.fstat(file).st_dev != must_be_pool(mount):
                    raise Gone
                number += 1
                said = record(number, node)
                os.write(file, said)
                os.fsync(file)
                answers.sendto(said, client)
            time.sleep(PAUSE_S)
    finally:
        os.close(file)


def record(number: int, node: str) -> bytes:
    return f"{number} {node}".ljust(RECORD - 1).encode() + b"\n"


def must_be_pool(mount: str) -> int:
    """The device of the file system that is mounted there. Raises Gone where none is, OSError."""
    device = Path(mount).stat().st_dev
    if device == Path(mount).parent.stat().st_dev:
        raise Gone
    return device


def own(vip: str) -> socket.socket:
    """A socket that speaks from the virtual IP. Raises OSError where the address is not here."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind((vip, 0))
    except OSError:
        sock.close()
        raise
    return sock


if __name__ == "__main__":
    main()
