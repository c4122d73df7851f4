"""What the commands and the machines say to the bench, and how: one JSON object a line over DIR/lab.sock.

A request is one line. The answer is any number of {"say": TEXT} lines for the terminal, then {"ok": RESULT} or
{"error": TEXT}. Only a machine's pid 1 keeps its connection: `booted` at the start, `rebooting` before it ends itself.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab.faults import Link, Way
from middlewared.lab.layout import Layout

MachineName: TypeAlias = Literal["A", "B", "client"]


class Booted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="booted"):
    machine: MachineName


class Rebooting(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="rebooting"
):
    machine: MachineName
    why: str


class Ready(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="ready"):
    """Answered when the pair is up: with what `up` prints last."""


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="status"):
    pass


class Where(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="where"):
    """Answered with the pid whose namespaces the machine's are; 0 when it is off."""

    machine: MachineName


class Power(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="power"):
    node: Node
    on: bool


class Freeze(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="freeze"):
    node: Node


class Thaw(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="thaw"):
    node: Node


class Cut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="cut"):
    link: Link
    way: Way


class Heal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="heal"):
    link: Link
    way: Way


class Down(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="verb", tag="down"):
    """Answered when everything has ended but the bench itself."""


Verb: TypeAlias = Booted | Rebooting | Ready | Status | Where | Power | Freeze | Thaw | Cut | Heal | Down

decoder: msgspec.json.Decoder[Verb] = msgspec.json.Decoder(Verb)


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an answer; exactly one field is there."""

    say: str | None = None
    ok: msgspec.Raw = msgspec.Raw()
    error: str | None = None


def ok(result: object) -> Reply:
    return Reply(ok=msgspec.Raw(msgspec.json.encode(result)))


class NoLab(PortFailed):
    """No bench listens in this directory."""

    def __init__(self, layout: Layout) -> None:
        super().__init__("lab", f"there is none up in {layout.dir} (`middlewared-lab up --dir {layout.dir}`)")


def ask(layout: Layout, verb: Verb, timeout_s: float, say: Callable[[str], None] = print) -> bytes:
    """Send one request and wait for its result, as JSON. Raises NoLab, or PortFailed with the bench's refusal."""
    with socket.socket(socket.AF_UNIX) as bench:
        bench.settimeout(timeout_s)
        try:
            bench.connect(str(layout.socket))
            bench.sendall(msgspec.json.encode(verb) + b"\n")
            for line in bench.makefile("rb"):
                reply = msgspec.json.decode(line, type=Reply)
                if reply.say is not None:
                    say(reply.say)
                elif reply.error is not None:
                    raise PortFailed("lab", reply.error)
                elif reply.ok != msgspec.Raw():
                    return bytes(reply.ok)
        except TimeoutError:
            raise PortFailed("lab", f"the bench gave no answer within {timeout_s:g} s; see {layout.log}") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoLab(layout) from None
        except OSError as e:
            raise PortFailed("lab", f"{layout.socket}: {e.strerror}") from None
    raise PortFailed("lab", f"the bench ended in the middle; see {layout.log}")
