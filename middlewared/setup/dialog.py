"""Questions on a console, any console: lines in, lines out. Looks are left away where the terminal has none."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from middlewared.kernel.errors import MiddlewareError, PortFailed, Refused
from middlewared.setup.nics import Nic

Check = Callable[[str], object]
"""Raises Refused where the text is no answer."""


class Dialog:
    """assume: nobody is asked; what has no default is refused under the name of its option."""

    def __init__(self, *, assume: bool) -> None:
        self.assumes = assume
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        self._console.print(text, style=style, markup=False)

    def ask(self, question: str, option: str, default: str | None, check: Check) -> str:
        """An answer that passes the check. Raises Refused where nobody can be asked, PortFailed at the end of input."""
        if self.assumes:
            if default is None:
                raise Refused((option, "is needed where nobody is asked (--yes)"))
            check(default)
            return default
        while True:
            self._console.print(f"{question} " + (f"[{default}] " if default else ""), end="", markup=False)
            answer = _line().strip() or default or ""
            try:
                check(answer)
            except MiddlewareError as e:
                self._complain(e)
            else:
                return answer

    def agree(self, question: str, *, default: bool) -> bool:
        if self.assumes:
            return default
        answer = self.ask(question, "", "y" if default else "n", _yes_or_no)
        return answer.lower().startswith("y")

    def new_password(self, whose: str) -> str:
        """Asked twice, not shown."""
        while True:
            first = _secret(f"Password of {whose}: ")
            if not first:
                self.say("  It must not be empty.")
            elif first == _secret("The same again: "):
                return first
            else:
                self.say("  These are not the same.")

    def show(self, nics: list[Nic]) -> None:
        table = Table(box=None, pad_edge=False, show_edge=False)
        for title in ("  interface", "hardware address", "cable", "addresses"):
            table.add_column(title)
        for nic in nics:
            table.add_row(f"  {nic.name}", nic.mac, "yes" if nic.carrier else "no", " ".join(nic.addresses))
        self._console.print(table)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """While something takes its time: a word that moves, or one line."""
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            with self._console.status(what):
                yield
        else:
            self.say(what)
            yield

    def _complain(self, error: MiddlewareError) -> None:
        sentences = [sentence for _, sentence, _ in error.problems] if isinstance(error, Refused) else [str(error)]
        for sentence in sentences:
            self.say(f"  {sentence}", style="red")


def _yes_or_no(answer: str) -> None:
    if answer.lower() not in ("y", "yes", "n", "no"):
        raise Refused(("", "y or n"))


def _line() -> str:
    try:
        return input()
    except EOFError:
        raise PortFailed("setup", "the input ended; every answer can be given as an option, see --help") from None


def _secret(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise PortFailed("setup", "the input ended; see --password-file") from None
