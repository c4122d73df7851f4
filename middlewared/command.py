"""`middlewared`: the daemon, and what an operator does on a controller's console."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from middlewared import __version__, completion_command, config, config_command, init_command, log_command
from middlewared.kernel.errors import CallFailed, MiddlewareError, Refused
from middlewared.setup import options

PAIR_TIMEOUT_S = 30.0


def main() -> None:
    """Entry point. Exit status 0: done; 1: not done, stderr says why; 2: bad usage."""
    args = _parser().parse_args()
    try:
        sys.exit(args.run(args))
    except Refused as e:
        for field, message, _ in e.problems:
            print(f"middlewared: {field}: {message}", file=sys.stderr)
    except (MiddlewareError, OSError) as e:
        for line in (e.reason if isinstance(e, CallFailed) else str(e)).splitlines():
            print(f"middlewared: {line}", file=sys.stderr)
    sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="middlewared", description="High availability for dual-controller storage.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--config",
        type=Path,
        default=config.DEFAULT_PATH,
        metavar="FILE",
        help="the boot file (default: %(default)s)",
    )
    sub = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = sub.add_parser("serve", help="run the daemon (init does this)")
    serve.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the boot file")
    serve.set_defaults(run=_serve)
    pair = sub.add_parser(
        "pair",
        help="make two controllers a pair",
        description="Without arguments: print a code, good for ten minutes. With the other controller's code and its "
        "interlink address: join it; its configuration becomes this controller's.",
    )
    pair.add_argument("code", nargs="?", metavar="CODE")
    pair.add_argument("host", nargs="?", metavar="HOST")
    pair.add_argument("--discard-mine", action="store_true", help="set this controller's own configuration aside")
    pair.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the boot file")
    pair.set_defaults(run=_pair)
    log_command.add_parsers(sub)
    config_command.add_parsers(sub)
    init_command.add_parsers(sub)
    options.add_parsers(sub)
    completion_command.add_parsers(sub, parser)
    return parser


def _serve(args: argparse.Namespace) -> int:
    boot = config.load(args.config)
    # Everything heavy is imported here: the other commands must answer at once.
    import uvloop

    from middlewared import daemon
    from middlewared.shell import logs, realtime

    logs.set_up()
    realtime.spare_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(daemon.serve(boot))


def _pair(args: argparse.Namespace) -> int:
    from middlewared.client import SyncClient

    boot = config.load(args.config)
    if args.code is not None and args.host is None:
        print("middlewared: pair CODE HOST: the address of the other controller is missing", file=sys.stderr)
        return 2
    with SyncClient(f"ws+unix://{boot.api_socket}") as client:
        if args.code is None:
            code = client.call("failover.pair.open", timeout_s=PAIR_TIMEOUT_S)
            print("On the other controller, within ten minutes:", file=sys.stderr)
            print(f"  middlewared pair CODE {boot.interlink.address if boot.interlink else 'HOST'}", file=sys.stderr)
            print(code)
        else:
            client.call("failover.pair.join", args.code, args.host, args.discard_mine, timeout_s=PAIR_TIMEOUT_S)
            print("Joined. Both controllers start again as a pair.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    main()
