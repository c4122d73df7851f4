"""Looks for planted secrets in bytes, in every form that they could have been written in."""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

PIECE = 1 << 22


def forms(secret: bytes) -> Iterator[bytes]:
    """As it is, in hex of both cases, in base64 wherever in a longer text it begins, and as JSON escapes it."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        # What of the text does not depend on its neighbours: the letters whose bits are the secret's alone.
        text = base64.b64encode(bytes(shift) + secret)[-(-shift * 4 // 3) :].rstrip(b"=")[:-1]
        yield text
        yield text.replace(b"+", b"-").replace(b"/", b"_")
    yield secret.replace(b"/", b"\\/")


def found_in(data: bytes, secrets: Mapping[str, bytes]) -> set[str]:
    return {name for name, secret in secrets.items() if any(form in data for form in forms(secret))}


def found_in_files(paths: Iterable[Path], secrets: Mapping[str, bytes]) -> dict[str, set[str]]:
    """File -> the names of the secrets in it. A secret across two pieces is found: they overlap."""
    found: dict[str, set[str]] = {}
    for path in paths:
        overlap = b""
        with path.open("rb") as file:
            while _to_data(file) and (piece := file.read(PIECE)):
                for name in found_in(overlap + piece, secrets):
                    found.setdefault(str(path), set()).add(name)
                overlap = piece[-1024:]
    return found


def _to_data(file: BinaryIO) -> bool:
    """Go over a hole: the images of disks are mostly that. False: there is no more."""
    try:
        file.seek(os.lseek(file.fileno(), file.tell(), os.SEEK_DATA))
    except OSError as e:
        if e.errno != errno.ENXIO:
            raise
        return False
    return True
