"""Which boot this is."""

from __future__ import annotations

from pathlib import Path


def this_boot() -> str:
    """The kernel's boot id and the start time of pid 1: a container that was started again is a new boot, too."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    fields = Path("/proc/1/stat").read_text().rpartition(")")[2].split()
    return f"{boot_id}/{fields[19]}"
