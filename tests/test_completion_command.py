from __future__ import annotations

import subprocess

import pytest

from middlewared.command import _parser
from middlewared.completion_command import script


def completed(*words: str) -> set[str]:
    """What bash offers for the last of these words."""
    line = " ".join(f'"{word}"' for word in words)
    asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _middlewared; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(
        ["bash", "-c", script(_parser()) + asked], capture_output=True, text=True, timeout=10, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("middlewared", "ser"), {"serve"}),
        (("middlewared", "config", "c"), {"check"}),
        (("middlewared", "config", "check", "--j"), {"--json"}),
        (("middlewared", "config", "check", "/etc/x.toml", "--a"), {"--all"}),
        (("middlewared", "setup", "--inter"), {"--interlink", "--interlink-address"}),
    ],
)
def test_bash_offers_what_the_parser_knows(words: tuple[str, ...], offered: set[str]) -> None:
    assert completed(*words) == offered


def test_the_commands_are_offered_first() -> None:
    assert {"serve", "pair", "setup", "log", "config", "completion"} <= completed("middlewared", "")
