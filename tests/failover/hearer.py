"""Runs on the client: prints each datagram with its time of arrival, `MONOTONIC_NS TEXT`, and does nothing else.

python hearer.py ADDRESS PORT
"""

from __future__ import annotations

import socket
import sys
import time

BUFFER_BYTES = 4 * 1024 * 1024


def main() -> None:
    address, port = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears:
        hears.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        hears.bind((address, int(port)))
        print("0 ready", flush=True)
        while True:
            said = hears.recv(64)
            print(time.monotonic_ns(), said.decode().strip(), flush=True)


if __name__ == "__main__":
    main()
