"""The pool that the failover tools write to: made, scrubbed, and asked who imported it."""

from __future__ import annotations

import asyncio

import msgspec

from middlewared.client import Client
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair

POOL = "tank"
DISKS = (3, 4)
"""Numbers of the shelf's disks: those that do not vote."""
JOB_S = 60.0


class Scan(msgspec.Struct, frozen=True):
    state: str
    errors: int


class Tank(msgspec.Struct, frozen=True):
    """What is read of a pool. scan: of its last scrub."""

    id: int
    guid: str
    healthy: bool
    scan: Scan | None = None


def make(pair: Pair) -> Tank:
    """Make the pool; returns when both controllers know it."""
    disks = [f"SHELF-{disk}" for disk in DISKS]
    made = job(pair, "pool.create", {"name": POOL, "topology": {"data": [{"type": "MIRROR", "disks": disks}]}})
    pair.wait_until("B knows the pool", lambda: bool(pair.call("B", "pool.query")), 5.0)
    return msgspec.convert(made, Tank)


def scrub(pair: Pair, tank: Tank) -> Scan:
    """Read everything, and say what was wrong."""
    scan = msgspec.convert(job(pair, "pool.scrub", tank.id), Tank).scan
    assert scan is not None
    return scan


def job(pair: Pair, method: str, *params: object) -> object:
    """A job's result, as an administrator at the virtual IP gets it. Raises MiddlewareError."""

    async def run() -> object:
        up = pair.result
        async with Client(up.vip_url, username=up.user, password=up.password, patience_s=JOB_S) as client:
            return await client.call_job(method, *params)

    return asyncio.run(asyncio.wait_for(run(), JOB_S))


def imports(pair: Pair, node: Node) -> int:
    """How often the pool was imported, or made, as it tells itself: `zpool history`."""
    lines = pair.run(node, "zpool", "history", POOL).splitlines()
    return sum(" zpool import " in line or " zpool create " in line for line in lines)
