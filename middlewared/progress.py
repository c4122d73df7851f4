"""The progress of a job on the command line: a bar on a terminal, else a line for each change, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Show = Callable[[Mapping[str, Any]], None]


@contextmanager
def shown(bar: bool) -> Iterator[Show]:
    """Show what is told of a job until the block ends. bar: where stderr is a terminal."""
    if not bar or not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=100)

        def show(job: Mapping[str, Any]) -> None:
            told = job["progress"]
            progress.update(task, completed=told["percent"], description=told["description"] or job["state"].lower())

        yield show


class _Lines:
    """One line for each change that can be seen."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, job: Mapping[str, Any]) -> None:
        told = job["progress"]
        line = f"{told['percent']:3.0f} % {told['description'] or job['state'].lower()}"
        if line != self._last:
            self._last = line
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
