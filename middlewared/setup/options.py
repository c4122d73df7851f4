"""The options of `middlewared setup`: each is the answer to one of its questions."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parsers(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `setup` to a command line whose own parser gives `--config` a default."""
    about = (
        "Make this machine one controller of a pair: its boot file, the units of systemd, the first administrator and "
        "the pairing. Asks for what no option says, shows what it will do, and may be run again at any time."
    )
    parser = sub.add_parser("setup", help="make this machine a controller", description=about)
    add = parser.add_argument
    file = "the boot file to write; not the default one: only with --no-units"
    add("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=file)
    add("--node", metavar="A|B", help="this controller's slot in the chassis")
    add("--interlink", metavar="INTERFACE", help="the cable to the other controller; none: there is no other")
    add("--interlink-address", metavar="ADDRESS/PREFIX", help="this controller's address on it (default: link-local)")
    add("--peer", metavar="ADDRESS", help="the other controller's address on it")
    own = "its own address, INTERFACE:ADDRESS/PREFIX; keep: the system gives it one"
    add("--address", metavar="WHERE", help=own)
    way_out = "the default gateway of the pair, not with --join; none: it stays as it is"
    add("--gateway", metavar="ADDRESS", help=way_out)
    add("--username", default="admin", metavar="NAME", help="the first administrator (default: %(default)s)")
    add("--password-file", type=Path, metavar="FILE", help="whose first line is the password; -: standard input")
    add("--join", metavar="CODE", help="the code that the other controller shows, which is set up already")
    add("--discard-mine", action="store_true", help="set a configuration of this controller aside when it joins")
    add("--no-pairing", action="store_true", help="neither show a code nor ask for one")
    add("--no-units", action="store_true", help="leave systemd alone; something else starts the three daemons")
    add("--yes", action="store_true", help="ask nothing; what has no default must be given")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    # rich and the client are imported by who needs them: the other commands must answer at once.
    from middlewared.setup.command import run

    return run(args)
