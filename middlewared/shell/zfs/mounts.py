"""Which datasets are mounted, from proc_pid_mountinfo(5). Pure.

A dataset that is not mounted has a directory all the same, and what is written there fills another file system. So
nobody may take a mountpoint for a dataset without having looked here.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\([0-7]{3})")
_KINDS = ("zfs", "fuse.zfs")


def mounted(mountinfo: str) -> dict[str, str]:
    """Dataset -> where it is mounted."""
    found = {}
    for line in mountinfo.splitlines():
        where, _, what = line.partition(" - ")
        kind, _, source = what.partition(" ")
        if kind in _KINDS:
            found[_plain(source.split(" ")[0])] = _plain(where.split(" ")[4])
    return found


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), text)
