"""The switch: three bridges in the bench's own network namespace, and cables to each machine.

br0 is the LAN, br2 a second one, br1 the interlink; the cables end outside the controllers, so carrier can be dropped
at either end. No spanning tree and no multicast snooping: a port forwards from the moment it is up. See bridge(8),
veth(4), nft(8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from middlewared.kernel.errors import PortFailed
from middlewared.lab.faults import LOST_PERCENT, Wiring

TOOL_TIMEOUT_S = 10.0
_BRIDGE = {"s": "br0", "i": "br1", "t": "br2"}
_NICS = {"s": "eth0", "i": "il0", "t": "eth1"}
_NUMBER = {"s": 1, "i": 2, "t": 3}


def ports_of(machine: str) -> tuple[str, ...]:
    return ("sC", "tC") if machine == "client" else (f"s{machine}", f"t{machine}", f"i{machine}")


def mac(port: str) -> str:
    """The hardware address at the machine's end: the same after each boot, as on a real network card."""
    return f"02:00:00:00:0{_NUMBER[port[0]]}:0{port[1].lower()}"


async def build_switch() -> None:
    """Raises PortFailed where the kernel lacks bridges or nftables' bridge family."""
    lines = ["link set lo up"]
    for bridge in _BRIDGE.values():
        lines.append(f"link add {bridge} type bridge stp_state 0 mcast_snooping 0 forward_delay 0")
        lines.append(f"link set {bridge} addrgenmode none up")
    await ip(lines)
    await tool(
        "nft", "-f", "-", lines=("table bridge lab { chain forward { type filter hook forward priority 0; }; }",)
    )


async def plug_in(machine: str, pid: int) -> None:
    """Lay fresh cables to the machine with this pid 1. Its ports are down until `apply` says otherwise."""
    lines = []
    for port in ports_of(machine):
        far = f"{_NICS[port[0]]} address {mac(port)} netns {pid}"
        lines.append(f"link add {port} type veth peer name {far}")
        lines.append(f"link set {port} addrgenmode none master {_BRIDGE[port[0]]}")
    await ip(lines)


async def pull_out(machine: str) -> None:
    """Remove the machine's cables at once; those of a dead machine go by themselves, but later."""
    await tool("ip", "-force", "-batch", "-", lines=[f"link del {port}" for port in ports_of(machine)], may_fail=True)


async def apply(before: Wiring | None, after: Wiring) -> None:
    """Make the ports and the drops as `after` says; what must fall falls first."""
    was_up = before.up if before else frozenset()
    if down := sorted(was_up - after.up):
        # A machine that ended by itself may have taken its ports with it.
        await tool("ip", "-force", "-batch", "-", lines=[f"link set {port} down" for port in down], may_fail=True)
    if up := sorted(after.up - was_up):
        await ip(f"link set {port} up" for port in up)
    if before is None or drop_rules(before) != drop_rules(after):
        await tool("nft", "-f", "-", lines=drop_rules(after))


def drop_rules(wiring: Wiring) -> list[str]:
    """The nft script that replaces every rule at once."""
    lines = ["flush chain bridge lab forward"]
    lines += [f'add rule bridge lab forward iifname "{port}" drop' for port in sorted(wiring.drop_from)]
    lines += [f'add rule bridge lab forward oifname "{port}" drop' for port in sorted(wiring.drop_to)]
    some = f"numgen random mod 100 < {LOST_PERCENT} drop"
    for port in sorted(wiring.lossy):
        lines += [f'add rule bridge lab forward {way} "{port}" {some}' for way in ("iifname", "oifname")]
    return lines


async def ip(lines: Iterable[str]) -> None:
    await tool("ip", "-batch", "-", lines=lines)


async def tool(*argv: str, lines: Iterable[str] = (), may_fail: bool = False) -> str:
    """Run a system tool with `lines` as its input; what it printed. Raises PortFailed with what it said."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        raise PortFailed(argv[0], "is not installed (see packages.txt)") from None
    try:
        out, err = await asyncio.wait_for(process.communicate("\n".join(lines).encode() + b"\n"), TOOL_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        raise PortFailed(" ".join(argv), f"did not end within {TOOL_TIMEOUT_S} s") from None
    if process.returncode != 0 and not may_fail:
        raise PortFailed(" ".join(argv), err.decode(errors="replace").partition("\n")[0])
    return out.decode()
