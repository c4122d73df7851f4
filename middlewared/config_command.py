"""`middlewared config`: a backup of the configuration, and a look at the boot file; while the daemon runs or not.

Exit status of `save`: 0 saved, 1 the files are damaged, 2 it could not be written; the reason is one line on stderr.
Exit status of `check`: 0 the boot file is good, 1 it is not, each fault a line on stderr, 2 it cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from middlewared import __version__, config
from middlewared.boot_rules import shown
from middlewared.config import BootFile
from middlewared.kernel.errors import BadBootFile, LogDamaged, MiddlewareError

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
    about = "say all that is wrong with the boot file: of each field, and of what the fields are to each other"
    check = command.add_parser("check", help=about, description=about)
    check.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: the boot file of this controller")
    check.add_argument("--all", action="store_true", help="print every field with the value that is in force")
    check.add_argument("--json", action="store_true", help="one object: {file, faults: [...], values: {...}}")
    check.set_defaults(run=_check)


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


def _check(args: argparse.Namespace) -> int:
    file: Path = args.file or args.config
    try:
        read = config.parse(file)
    except BadBootFile as e:
        sys.stderr.write(f"{e}\n")
        return 2
    faults, values = config.check(read), config.flat(read)
    if args.json:
        sys.stdout.buffer.write(msgspec.json.encode({"file": str(file), "faults": faults, "values": values}) + b"\n")
        return 1 if faults else 0
    if args.all:
        sys.stdout.write(_in_force(read, values))
    sys.stderr.writelines(f"{file}: {fault}\n" for fault in faults)
    if not faults and not args.all:
        sys.stdout.write(f"{file}: good\n")
    return 1 if faults else 0


def _in_force(read: dict[str, object], values: dict[str, object]) -> str:
    """Every field as a boot file would have it, with a note where nobody wrote it."""

    def line(field: str) -> str:
        section, _, name = field.rpartition(".")
        given = read.get(section) if section else read
        return f"{name} = {shown(values[field])}" + ("" if isinstance(given, dict) and name in given else "  # default")

    sections = list(dict.fromkeys(field.partition(".")[0] for field in values if "." in field))
    lines = [line(field) for field in values if "." not in field and field not in sections]
    for section in sections:
        lines += ["", f"[{section}]", *(line(field) for field in values if field.startswith(f"{section}."))]
    return "\n".join(lines) + "\n"
