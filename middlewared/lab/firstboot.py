"""From two controllers that just booted to a pair: the way that an administrator goes, command by command.

Administrator on A, pairing code from A to B, one virtual IP; then A is active, B is standby and in sync. A pair that
was set up before is only waited for; either of the two may then be the active one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec

from middlewared.client import Client
from middlewared.kernel.errors import MiddlewareError, PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab.bench import Bench
from middlewared.lab.faults import NODES
from middlewared.lab.init import service_path
from middlewared.lab.layout import INTERLINK, PREFIX, VHID, VIP, Layout
from middlewared.lab.machine import last_line
from middlewared.lab.status import Word, socket_uri, word_of

USER = "admin"
BOOT_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 30.0
PAIR_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 5.0
_POLL_S = 0.05


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """DIR/lab.json. set_up: the pair was completed; otherwise its databases are worth nothing."""

    user: str
    password: str
    set_up: bool


def remember(layout: Layout, memory: Memory) -> None:
    layout.memory.touch(mode=0o600)
    layout.memory.write_bytes(msgspec.json.encode(memory) + b"\n")


def recall(layout: Layout) -> Memory:
    """What was remembered; a new password for a lab that was never set up."""
    try:
        return msgspec.json.decode(layout.memory.read_bytes(), type=Memory)
    except (FileNotFoundError, msgspec.DecodeError):
        return Memory(user=USER, password=secrets.token_urlsafe(12), set_up=False)


async def bring_up(bench: Bench, memory: Memory, say: Callable[[str], None]) -> None:
    """Returns when the pair serves. Raises PortFailed with what was waited for in vain."""
    for node in NODES:
        await _serving(bench, node)
    if not memory.set_up:
        await _set_up(bench, memory, say)
    say("waiting for the active controller, the standby and their logs")
    await _wait_for("one MASTER and one BACKUP in sync", PAIR_TIMEOUT_S, lambda: _is_pair(bench, not memory.set_up))
    remember(bench.layout, msgspec.structs.replace(memory, set_up=True))


async def _set_up(bench: Bench, memory: Memory, say: Callable[[str], None]) -> None:
    remember(bench.layout, memory)
    say("setting the administrator's password on A")
    await _call(bench, "A", "user.setup_local_administrator", memory.user, memory.password)
    say("pairing B with A")
    code = (await _command(bench, "A", "middlewared", "pair")).splitlines()[-1].strip()
    await _command(bench, "B", "middlewared", "pair", code, INTERLINK["A"])
    say(f"setting the virtual IP {VIP}")
    vip = {"address": VIP, "prefix": PREFIX, "interface": "eth0", "vhid": VHID}
    await _wait_for("A to take the virtual IP", PAIR_TIMEOUT_S, lambda: _call(bench, "A", "network.vip.update", vip))


async def _call(bench: Bench, node: Node, method: str, *params: object) -> None:
    async with Client(socket_uri(bench, node)) as client:
        await client.call(method, *params, timeout_s=CALL_TIMEOUT_S)


async def _serving(bench: Bench, node: Node) -> None:
    try:
        await _wait_for(f"controller {node}'s API", BOOT_TIMEOUT_S, lambda: _call(bench, node, "core.ping"))
    except PortFailed as e:
        logs = "; ".join(last_line(log) for log in sorted(bench.layout.logs(node).glob("*.log")))
        raise PortFailed(e.purpose, f"{e.reason}; {logs}") from None


async def _is_pair(bench: Bench, a_must_be_active: bool) -> None:
    words = dict(zip(NODES, await asyncio.gather(*(word_of(bench, node) for node in NODES)), strict=True))
    roles = [words[node].role for node in NODES]
    active = next((word for word in words.values() if word.role == "MASTER"), Word())
    good = roles == ["MASTER", "BACKUP"] or (not a_must_be_active and roles == ["BACKUP", "MASTER"])
    if not good or set(active.in_sync) != set(NODES):
        raise PortFailed(
            "the pair", f"A is {roles[0]}, B is {roles[1]}, in sync: {', '.join(active.in_sync) or 'none'}"
        )


async def _wait_for(what: str, timeout_s: float, attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until it succeeds. Raises PortFailed with the last reason."""
    limit = time.monotonic() + timeout_s
    while True:
        try:
            return await attempt()
        except MiddlewareError as e:
            if time.monotonic() > limit:
                raise PortFailed(f"waited {timeout_s:g} s for {what}", str(e)) from None
        await asyncio.sleep(_POLL_S)


async def _command(bench: Bench, node: Node, *argv: str) -> str:
    """Run one of the product's commands on the controller; what it printed. Raises PortFailed with what it said."""
    pid = bench.machines[node].pid
    enter = ("nsenter", "-t", str(pid), "-n", "-m", "-p", "-u", "-i", "--root", "--")
    process = await asyncio.create_subprocess_exec(
        *(*enter, *argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": service_path(), "LANG": "C.UTF-8", "HOME": "/root"},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise PortFailed(f"{' '.join(argv[:2])} on {node}", f"did not end within {COMMAND_TIMEOUT_S:g} s") from None
    if process.returncode != 0:
        raise PortFailed(f"{' '.join(argv[:2])} on {node}", err.decode(errors="replace").strip())
    return out.decode()
