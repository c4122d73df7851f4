"""`middlewared completion`: what bash needs to complete its command lines, made from the parser itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

_BASH = """\
_middlewared() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} path="" word words=""
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        [[ $word == -* ]] || path+=" $word"
    done
    case $path in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _middlewared middlewared
"""


def add_parsers(sub: argparse._SubParsersAction[argparse.ArgumentParser], whole: argparse.ArgumentParser) -> None:
    """Add `completion` to `whole`, whose commands `sub` holds."""
    about = "print what bash needs to complete command lines of middlewared (midclt completion bash: of midclt)"
    completion = sub.add_parser("completion", help=about, description=about)
    completion.set_defaults(run=lambda _: _write(script(whole)))


def script(parser: argparse.ArgumentParser) -> str:
    """The completion function, for every command and each of its options."""
    cases = "\n".join(f'        "{path}"*) words="{" ".join(words)}" ;;' for path, words in _words(parser, ""))
    return _BASH.format(cases=cases)


def _words(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, list[str]]]:
    """What may follow each path of commands; the deepest first, since an argument of a command lengthens the path."""
    commands: dict[str, argparse.ArgumentParser] = {}
    options: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands.update(action.choices)
        options += [option for option in action.option_strings if option.startswith("--")]
    for name, command in commands.items():
        yield from _words(command, f"{path} {name}")
    yield path, [*commands, *options]


def _write(text: str) -> int:
    sys.stdout.write(text)
    return 0
