"""What the lab looks like from outside: what the bench did to it, and what each controller says of itself.

The owner of the VIP is who has the address on an interface that is up: the question goes to each controller's kernel
through its network namespace, so it is answered for a frozen controller too.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec

from middlewared.client import Client
from middlewared.kernel.errors import MiddlewareError, PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab import cables
from middlewared.lab.bench import Bench
from middlewared.lab.faults import NODES
from middlewared.lab.layout import VIP

ANSWER_TIMEOUT_S = 1.0


class LogPosition(msgspec.Struct, frozen=True, kw_only=True):
    last_seq: int
    commit_seq: int


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller says of itself; None where it says nothing."""

    role: str | None = None
    term: int | None = None
    log: LogPosition | None = None
    in_sync: tuple[Node, ...] = ()


class Controller(msgspec.Struct, frozen=True, kw_only=True):
    power: Literal["on", "off"]
    frozen: bool
    role: str | None
    term: int | None
    log: LogPosition | None


class VipState(msgspec.Struct, frozen=True, kw_only=True):
    """owner: A, B, "both" (which must never be), or None."""

    owner: str | None


class Lab(msgspec.Struct, frozen=True, kw_only=True):
    nodes: dict[Node, Controller]
    vip: VipState
    cuts: tuple[str, ...]


class _SyncStatus(msgspec.Struct, kw_only=True):
    """What the lab reads of failover.sync.status."""

    term: int
    last_seq: int
    commit_seq: int
    in_sync: tuple[Node, ...] = ()


async def look(bench: Bench) -> Lab:
    """The lab as it is now. Takes as long as the slowest controller, at most about a second."""
    words = await asyncio.gather(*(word_of(bench, node) for node in NODES))
    holders = await asyncio.gather(*(holds_vip(bench, node) for node in NODES))
    owners = [node for node, holds in zip(NODES, holders, strict=True) if holds]
    nodes = {node: _controller(bench, node, word) for node, word in zip(NODES, words, strict=True)}
    owner = "both" if len(owners) == 2 else next(iter(owners), None)
    return Lab(nodes=nodes, vip=VipState(owner=owner), cuts=tuple(map(str, sorted(bench.faults.cuts))))


def _controller(bench: Bench, node: Node, word: Word) -> Controller:
    power: Literal["on", "off"] = "on" if node in bench.powered else "off"
    frozen = bench.machines[node].frozen
    return Controller(power=power, frozen=frozen, role=word.role, term=word.term, log=word.log)


async def word_of(bench: Bench, node: Node) -> Word:
    """Ask the controller's own API; an empty word when it gives no answer in time."""
    machine = bench.machines[node]
    if not machine.running or machine.frozen:
        return Word()
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            async with Client(socket_uri(bench, node)) as client:
                role = await client.call("failover.status")
                sync = msgspec.convert(await client.call("failover.sync.status"), _SyncStatus)
    except (MiddlewareError, TimeoutError, msgspec.ValidationError):
        return Word()
    log = LogPosition(last_seq=sync.last_seq, commit_seq=sync.commit_seq)
    return Word(role=str(role), term=sync.term, log=log, in_sync=sync.in_sync)


def socket_uri(bench: Bench, node: Node) -> str:
    """The controller's unix socket, where the bench is root."""
    return f"ws+unix://{bench.layout.api_socket(node)}"


async def holds_vip(bench: Bench, node: Node) -> bool:
    pid = bench.machines[node].pid
    if not pid:
        return False
    look_up = ("ip", "-o", "-4", "addr", "show", "up", "to", f"{VIP}/32")
    try:
        return VIP in await cables.tool("nsenter", "-t", str(pid), "-n", *look_up)
    except PortFailed:
        return False  # it ended meanwhile
