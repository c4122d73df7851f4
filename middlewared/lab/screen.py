"""What `middlewared-lab up` shows until Ctrl-C: who is active, the VIP, both logs, where to point a browser."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from middlewared.lab import verbs
from middlewared.lab.layout import VIP, Layout
from middlewared.lab.status import Controller, Lab
from middlewared.lab.up import Result

REFRESH_S = 0.5
ASK_TIMEOUT_S = 10.0


def show(layout: Layout, result: Result) -> None:
    """Show the lab as it changes, until the bench is gone (PortFailed) or Ctrl-C (KeyboardInterrupt)."""
    console = Console(file=sys.stderr)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for lab in looks(layout):
                live.update(picture(lab, result), refresh=True)
        return
    last = ""
    for lab in looks(layout):
        if (line := summary(lab, result)) != last:
            print(line, file=sys.stderr, flush=True)
            last = line


def looks(layout: Layout) -> Iterator[Lab]:
    while True:
        yield msgspec.json.decode(verbs.ask(layout, verbs.Status(), ASK_TIMEOUT_S), type=Lab)
        time.sleep(REFRESH_S)


def picture(lab: Lab, result: Result) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in ("", "role", "term", "log", "committed", "API"):
        table.add_column(title)
    for name, node in lab.nodes.items():
        log = (str(node.log.last_seq), str(node.log.commit_seq)) if node.log else ("-", "-")
        style = {"MASTER": "bold green", "BACKUP": "cyan"}.get(node.role or "", "yellow")
        table.add_row(name, Text(word(node), style), str(node.term or "-"), *log, result.nodes[name]["url"])
    cuts = ", ".join(lab.cuts) or "none"
    return Group(
        table,
        Text(f"\nvirtual IP {VIP}: {lab.vip.owner or 'nobody'}    {result.vip_url}    cut: {cuts}"),
        Text(f"login {result.user} / {result.password}    files {result.dir}    Ctrl-C ends the lab", "dim"),
    )


def summary(lab: Lab, result: Result) -> str:
    """The same in one line, for a terminal that cannot move the cursor and for logs."""
    nodes = []
    for name, node in lab.nodes.items():
        log = f"log {node.log.last_seq}, committed {node.log.commit_seq}" if node.log else "log -"
        nodes.append(f"{name} {word(node)} {log} {result.nodes[name]['url']}")
    return f"{'; '.join(nodes)}; virtual IP {VIP} on {lab.vip.owner or 'nobody'} {result.vip_url}"


def word(node: Controller) -> str:
    if node.power == "off":
        return "off"
    return "frozen" if node.frozen else node.role or "silent"
