"""`middlewared log repair`: a damaged log of one controller of a pair, replaced by the other controller's.

The databases are set aside whole (store/aside.py). At the next start the log is empty, and the records come from the
other controller as the bytes that were written. Until all are here, the record on the shared disks does not name this
controller, so it opens nothing (protocol/replication_owner.py).

Whether the other one has all that was answered, the record says, as a majority of the disks holds it. Not looked at:
whether the other log is whole; its own controller refuses to send a damaged record.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from middlewared import config
from middlewared.config import BootFile
from middlewared.kernel.errors import LogDamaged, PortFailed
from middlewared.kernel.facts import Node, PairRecord, other
from middlewared.kernel.register import Silent
from middlewared.store.lock import DataDirectory

PURPOSE = "repair the log"
GIVE_UP = "--give-up-what-only-this-one-has"
LOCK_WAIT_S = 5.0
_DISK_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        GIVE_UP, dest="give_up", action="store_true", help="go on although answered writes may be on this one alone"
    )


def repair(args: argparse.Namespace) -> None:
    """Raises PortFailed where nothing was done."""
    from middlewared.shell.identity import Keys
    from middlewared.shell.shared_disks import records_of
    from middlewared.store.aside import set_aside

    boot = config.load(args.config)
    data = Path(boot.data_dir)
    with _locked(data):
        fault = _fault(data / "log.db")
        print(f"found: {fault}")
        cluster = Keys(data, boot.node).cluster
        if cluster is None:
            raise PortFailed(PURPOSE, "this controller was never paired: a backup is the only other copy")
        only_here = may_be_only_here(*asyncio.run(records_of(boot, cluster, within_s=_DISK_S)), boot.node)
        print(only_here or f"Every answered write is on controller {boot.peer} too.")
        if only_here is not None and not args.give_up:
            raise PortFailed(PURPOSE, f"nothing was done; {GIVE_UP} accepts that loss")
        if not args.yes and not _agreed(boot):
            raise PortFailed(PURPOSE, "nothing was done; --yes answers where there is no terminal")
        aside = set_aside(data)
    print(f"The log and state.db lie in {aside}; keys and quarantine are where they were.")
    print(f"At the next start this controller fetches the whole log from controller {boot.peer}, and is in sync after.")


def _locked(data: Path) -> DataDirectory:
    """init starts the daemon again and again; one that refuses the log has the lock for a moment only."""
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return DataDirectory(data)
        except PortFailed:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def _fault(path: Path) -> LogDamaged:
    from middlewared.store.rebuild import check_beside
    from middlewared.store.verify import verify

    try:
        verify(path)
        check_beside(path)
    except LogDamaged as e:
        return e
    raise PortFailed(PURPOSE, f"{path} is intact; nothing was done")


def may_be_only_here(said: Sequence[PairRecord | Silent | None], majority: bool, node: Node) -> str | None:
    """Why answered writes may be on `node` alone, as a sentence; None where the other one has them all.

    said: by each of the disks that vote. majority: whether those that answered are one.
    """
    heard = [record for record in said if not isinstance(record, Silent)]
    written = [record for record in heard if record is not None]
    unknown = f"It is not known whether controller {other(node)} has every answered write"
    if not majority:
        return f"{unknown}: {len(heard)} of {len(said)} shared disks answer."
    if not written:
        return f"{unknown}: the shared disks hold no record."
    last = max(written, key=lambda record: (record.term, record.serial))
    if other(node) in last.in_sync:
        return None
    return f"Controller {other(node)} is not in sync: writes that only this one has would be lost."


def _agreed(boot: BootFile) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"Set this log aside and fetch the one of controller {boot.peer}? [y/N] ").strip().lower() == "y"
