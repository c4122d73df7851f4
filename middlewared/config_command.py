"""`middlewared config save`: a backup of the configuration, while the daemon runs or not.

Exit status: 0 saved, 1 the files are damaged, 2 it could not be written; the reason is one line on stderr.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from middlewared import __version__, config
from middlewared.config import BootFile
from middlewared.kernel.errors import LogDamaged, MiddlewareError

STEPS = 200


def add_parsers(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `config` to a command line whose own parser gives `--config` a default."""
    about = "copy log and state into one archive in DATA_DIR/backup, beside whoever writes them"
    command = sub.add_parser("config", help="the configuration as a whole").add_subparsers(required=True, metavar="")
    save = command.add_parser("save", help=about, description=about)
    save.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the boot file")
    save.add_argument("--json", action="store_true", help="how far it is, and at the end what was made, as JSON lines")
    save.add_argument("--data", type=Path, metavar="DIR", help="the data directory (default: from the boot file)")
    save.add_argument("--node", choices=("A", "B"), default="A", help="whose it is, where --data is given")
    save.set_defaults(run=_save)


def _save(args: argparse.Namespace) -> int:
    from middlewared.engine import registry
    from middlewared.engine.apply import format_of
    from middlewared.shell.identity import Keys
    from middlewared.store import backup

    def line(value: object) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
        sys.stdout.buffer.flush()

    told = -1

    def progress(done: int, of: int) -> None:
        nonlocal told
        if args.json and done * STEPS // of > told:
            told = done * STEPS // of
            line({"at": done, "of": of})

    try:
        boot = BootFile(node=args.node, data_dir=str(args.data)) if args.data else config.load(args.config)
        data, floor = Path(boot.data_dir), boot.storage.free_floor_mib * 1024 * 1024
        cluster = Keys(data, boot.node).cluster
        about = backup.About(version=__version__, cluster=cluster.cluster_id if cluster else "", node=boot.node)
        made = backup.save(data, about, registry.load().nouns.values(), format_of, floor, progress)
    except MiddlewareError as e:
        sys.stderr.write(f"{e}\n")
        return 1 if isinstance(e, LogDamaged) else 2
    if args.json:
        line(made)
    else:
        sys.stdout.write(f"{made.path}: seq {made.seq}, {made.size} bytes, sha256 {made.sha256}\n")
    return 0
