"""Which disks vote, as fenced last took it up: kept over boots, see fenced/voting.py."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from middlewared.kernel.facts import Voting


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """`voters.json` in the data directory: of which cluster, and what."""

    cluster_id: str
    voting: Voting


def recall(path: Path) -> Kept | None:
    """None where nothing was kept, or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return None


def keep(path: Path, kept: Kept) -> None:
    """Durable on return. Raises OSError."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(msgspec.json.encode(kept))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
