"""The bench's process, which `up` starts and which every other command talks to.

    python -m middlewared.lab.daemon ORDERS      ORDERS: the JSON of `Orders`

Order: the host's listeners are open already (by `up`, before anything was unshared); namespaces; the door; then the
bench builds the lab, and the first set-up makes a pair of it. `lock` stays open as long as the process lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import msgspec

from middlewared.kernel.errors import MiddlewareError, PortFailed
from middlewared.lab import door, firstboot, namespaces
from middlewared.lab.bench import Bench, note
from middlewared.lab.faults import NODES
from middlewared.lab.layout import Layout
from middlewared.lab.news import News
from middlewared.lab.programs import Programs


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` hands over. listeners: open files for A, B and vip; urls: what leads to them."""

    dir: str
    lock: int
    listeners: dict[str, int]
    urls: dict[str, str]
    programs: Programs


async def bring_up(bench: Bench, orders: Orders, news: News) -> None:
    """Build the lab and say so in the news, or why there is none."""

    def say(line: str) -> None:
        note(line)
        news.say(line)

    try:
        memory = firstboot.recall(bench.layout)
        say("building the switch, the shelf and the controllers")
        await bench.build()
        if orders.programs.set_up:
            await firstboot.bring_up(bench, memory, say)
    except (MiddlewareError, OSError) as e:
        note(f"failed: {e}")
        news.failed(e if isinstance(e, MiddlewareError) else PortFailed("build the lab", str(e)))
        return
    nodes = {node: {"url": orders.urls[node], "socket": str(bench.layout.api_socket(node))} for node in NODES}
    news.succeeded(
        {
            "nodes": nodes,
            "vip_url": orders.urls["vip"],
            "user": memory.user,
            "password": memory.password,
            "dir": str(bench.layout.dir),
        }
    )


async def live(orders: Orders) -> None:
    """Until somebody says `down`, or a signal does."""
    bench = Bench(Layout(Path(orders.dir)), orders.programs, orders.listeners)
    news = News()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, over.set)

    async def down() -> None:
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        await bench.tear_down()
        over.set()

    server = await door.open_door(bench, news, down)
    starting = asyncio.create_task(bring_up(bench, orders, news))
    await over.wait()
    await down()
    server.close()


def main() -> None:
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    try:
        namespaces.leave_host()
    except PortFailed as e:
        sys.exit(str(e))
    asyncio.run(live(orders))
    Layout(Path(orders.dir)).socket.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
