"""Frames between a controller and what stands for the management controller of the other one: a JSON object a line."""

from __future__ import annotations

from typing import Literal

import msgspec


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """power_off: cut the other controller's power, and give it back after a while. status: is it on?"""

    verb: Literal["power_off", "status"]


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """on: whether it has power, as measured when this was said. error: why that is not known."""

    on: bool | None = None
    error: str = ""


_asks: msgspec.json.Decoder[Ask] = msgspec.json.Decoder(Ask)
_answers: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


def encode(frame: Ask | Said) -> bytes:
    return msgspec.json.encode(frame) + b"\n"


def decode_ask(line: bytes) -> Ask:
    """Raises msgspec.DecodeError for a line of the wrong form."""
    return _asks.decode(line)


def decode_said(line: bytes) -> Said:
    """Raises msgspec.DecodeError for a line of the wrong form."""
    return _answers.decode(line)
