"""What a controller must be told before it is one, and the boot file that follows from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface

import msgspec

from middlewared.boot_rules import shown
from middlewared.config import FirstAddress, Interlink
from middlewared.kernel.errors import Refused
from middlewared.kernel.facts import Node

PROPOSED: dict[Node, str] = {"A": "169.254.10.1", "B": "169.254.10.2"}
"""Addresses for an interlink that nobody has given any: link-local, RFC 3927."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """interlink None: this controller stays alone. first_address None: the system gives it one."""

    node: Node
    interlink: Interlink | None
    first_address: FirstAddress | None = None


def boot_file(read: Mapping[str, object], answers: Answers) -> dict[str, object]:
    """The boot file `read` with the answers in it; what was not asked for stays."""
    made = {**read, "node": answers.node}
    for name, section in (("interlink", answers.interlink), ("first_address", answers.first_address)):
        before = read.get(name)
        if section is None:
            made.pop(name, None)
        else:
            made[name] = {**(before if isinstance(before, Mapping) else {}), **_fields(section)}
    return made


def _fields(section: Interlink | FirstAddress) -> dict[str, object]:
    """Without what setup does not ask for: a port that somebody chose stays."""
    return {name: value for name, value in msgspec.structs.asdict(section).items() if name != "port"}


def as_text(boot: Mapping[str, object]) -> str:
    """TOML: single values first, then the sections."""
    lines = ["# What this controller must know before it can read its configuration: docs/boot-file.md."]
    lines += [f"{name} = {shown(value)}" for name, value in boot.items() if not isinstance(value, Mapping)]
    for name, section in boot.items():
        if isinstance(section, Mapping):
            lines += ["", f"[{name}]", *(f"{field} = {shown(value)}" for field, value in section.items())]
    return "\n".join(lines) + "\n"


def with_prefix(text: str, option: str, prefix: int = 24) -> tuple[str, int]:
    """ADDRESS or ADDRESS/PREFIX. Raises Refused under the name of the option."""
    address, slash, given = text.strip().partition("/")
    try:
        ip = ip_interface(f"{address}/{given if slash else prefix}")
    except ValueError:
        raise Refused((option, f"{text!r} is not ADDRESS/PREFIX")) from None
    return str(ip.ip), ip.network.prefixlen
