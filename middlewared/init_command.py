"""What init has done beside the daemons: the addresses of the boot file at boot, the handover at shutdown."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from middlewared import config

APPEAR_S = 10.0
ASK_S = 5.0


def add_parsers(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `addresses` and `hand-over` to a command line whose own parser gives `--config` a default."""
    about = "give this controller the addresses of its boot file (init does this at boot)"
    addresses = sub.add_parser("addresses", help=about, description=about)
    addresses.set_defaults(run=_addresses)
    about = "if this controller is the active one, give the other what it owns (init does this at shutdown)"
    hand_over = sub.add_parser("hand-over", help=about, description=about)
    hand_over.add_argument("--within", type=float, default=30.0, metavar="S", help="seconds (default: %(default)g)")
    hand_over.set_defaults(run=_hand_over)
    for parser in (addresses, hand_over):
        parser.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the boot file")


def _addresses(args: argparse.Namespace) -> int:
    from middlewared.shell.own_address import give_address

    boot = config.load(args.config)
    for own in (boot.interlink, boot.first_address):
        if own is not None:
            give_address(own.interface, own.address, own.prefix, APPEAR_S)
    return 0


def _hand_over(args: argparse.Namespace) -> int:
    from middlewared.client import SyncClient

    boot = config.load(args.config)
    with SyncClient(f"ws+unix://{boot.api_socket}") as client:
        status = client.call("failover.status", timeout_s=ASK_S)
        if status != "MASTER":
            print(f"This controller is {status}: there is nothing to hand over.", file=sys.stderr)
            return 0
        client.call_job("failover.become_passive", timeout_s=args.within)
        print("The other controller is active.", file=sys.stderr)
    return 0
