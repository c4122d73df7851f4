"""What fenced must know again after a crash within one boot: kept in the run directory, which no boot survives.

The boot is told by shell/boot_id.py, so that a restarted container is a new boot as well, even where its run directory
was kept.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from middlewared.kernel.facts import Node
from middlewared.protocol.hub import Settings


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """boot_id: of the boot that this holds for. The rest: see protocol.failover.View.

    settings: as middlewared gave them last; they hold the cluster's key, so the file is for root alone.
    serves, pools, failed, failed_at: see serving.Serving.
    last_owner: who was last seen to own.
    """

    boot_id: str
    booted_at: float
    owned_term: int = 0
    settled: bool = False
    settings: Settings | None = None
    serves: bool = False
    pools: tuple[str, ...] = ()
    failed: str | None = None
    failed_at: float | None = None
    moves: tuple[float, ...] = ()
    last_owner: Node | None = None


def recall(path: Path, boot_id: str, now: float) -> Memory:
    """What is remembered of this boot; nothing where the file is absent, unreadable or of another boot."""
    try:
        memory = msgspec.json.decode(path.read_bytes(), type=Memory)
    except (OSError, msgspec.DecodeError):
        memory = None
    return memory if memory is not None and memory.boot_id == boot_id else Memory(boot_id=boot_id, booted_at=now)


def remember(path: Path, memory: Memory) -> None:
    """Replace the file at once or not at all. No fsync: a power cut is a new boot. Raises OSError."""
    temporary = path.with_suffix(".new")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, msgspec.json.encode(memory))
    finally:
        os.close(file)
    temporary.replace(path)
