"""middlewared-carpd: the small process that holds the virtual IPs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path
from typing import Protocol

from middlewared import config
from middlewared.carpd.plain import PlainRouter
from middlewared.carpd.station import Station
from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Vip
from middlewared.protocol.carp_packet import KEY_SIZE
from middlewared.shell.clock import SystemClock
from middlewared.shell.journal import Journal
from middlewared.shell.realtime import harden

PRIORITY = 40


class Service(Protocol):
    async def run(self) -> None: ...


def main() -> None:
    """Exit status 0 after SIGTERM or SIGINT, 1 when the service failed, 2 when it was called wrongly."""
    arguments = _parse()
    try:
        made = _plain(arguments) if arguments.plain else _paired(arguments.config)
        asyncio.run(_serve(made))
    except (MiddlewareError, OSError) as e:
        sys.exit("\n".join(f"middlewared-carpd: {line}" for line in str(e).splitlines()))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="middlewared-carpd",
        description="Holds virtual IPs by CARP. Normally started by the init of the controller, with the boot file.",
    )
    parser.add_argument("--config", type=Path, default=config.DEFAULT_PATH, metavar="FILE", help="the boot file")
    parser.add_argument(
        "--plain",
        nargs=4,
        metavar=("INTERFACE", "VHID", "ADDRESS[/PREFIX]", "PASSWORD"),
        help="hold one VIP against foreign CARP routers (ucarp, BSD) by ordinary election, without fenced. "
        f"PASSWORD has at most {KEY_SIZE} bytes; @FILE reads it from the first line of FILE. "
        "With PREFIX, answers inside that network leave with the virtual MAC",
    )
    parser.add_argument("--advbase", type=int, default=1, metavar="S", help="plain: seconds between adverts (1-254)")
    parser.add_argument("--advskew", type=int, default=0, metavar="N", help="plain: and N/256 seconds more (0-254)")
    arguments = parser.parse_args()
    if arguments.plain:
        _check_plain(parser, arguments)
    return arguments


def _check_plain(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    _, vhid, address, _ = arguments.plain
    if not vhid.isdecimal() or not 1 <= int(vhid) <= 255:
        parser.error(f"VHID: {vhid!r} is not between 1 and 255")
    try:
        ip_interface(address)
    except ValueError:
        parser.error(f"ADDRESS: {address!r} is not an IP address")
    if not 1 <= arguments.advbase <= 254:
        parser.error(f"--advbase: {arguments.advbase} is not between 1 and 254")
    if not 0 <= arguments.advskew <= 254:
        parser.error(f"--advskew: {arguments.advskew} is not between 0 and 254")
    try:
        arguments.password = _password(arguments.plain[3])
    except OSError as e:
        parser.error(f"PASSWORD: {e.filename}: {e.strerror}")
    if len(arguments.password) > KEY_SIZE:
        parser.error(f"PASSWORD: more than {KEY_SIZE} bytes")


def _password(given: str) -> bytes:
    return Path(given[1:]).read_bytes().partition(b"\n")[0] if given.startswith("@") else given.encode()


def _paired(path: Path) -> Callable[[str], Service]:
    boot = config.load(path)
    return lambda scheduling: Station(boot, SystemClock(), scheduling)


def _plain(arguments: argparse.Namespace) -> Callable[[str], Service]:
    interface, vhid, address, _ = arguments.plain
    parsed = ip_interface(address)
    vip = Vip(vhid=int(vhid), address=str(parsed.ip), prefix=parsed.network.prefixlen, interface=interface)
    return lambda scheduling: PlainRouter(SystemClock(), vip, arguments.password, arguments.advbase, arguments.advskew)


async def _serve(make: Callable[[str], Service]) -> None:
    """Run until told to end.

    A turn that fails ends the process where it stands, with the VIPs up: the next one adopts them well within their
    lease, and that takes less time than any repair.
    """
    loop = asyncio.get_running_loop()
    scheduling = harden(PRIORITY)
    Journal("carpd").note("start", scheduling=scheduling)
    task = asyncio.ensure_future(make(scheduling).run())

    def failed(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        loop.default_exception_handler(context)
        os._exit(1)

    loop.set_exception_handler(failed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    main()
