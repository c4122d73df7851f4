"""Secrets as the log and the state hold them: closed envelopes. What opens them is never in either.

An envelope is bound to its noun and to its place in it, so one that is moved elsewhere does not open. It is made in the
shell, nonce included, and is data from then on: deciding and folding never open it.
"""

from __future__ import annotations

import msgspec


class Sealed(msgspec.Struct, frozen=True):
    """kid: the key that closes it. nonce, ct: of the AEAD; ct ends with its tag."""

    kid: str
    nonce: bytes
    ct: bytes


class KeyBundle(msgspec.Struct, frozen=True):
    """Keys by their ids, and which of them closes new envelopes. It never leaves the two controllers."""

    active: str
    keys: dict[str, bytes]

    def __repr__(self) -> str:
        return f"KeyBundle(active={self.active!r}, keys={sorted(self.keys)})"


def bound_to(noun: str, field: str) -> bytes:
    """What an envelope is bound to, beside its key."""
    return msgspec.json.encode(["mw-secret1", noun, field])


def may_pair(mine: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether one of two controllers holds every key that the other has; it gives the others then."""
    return not mine or not theirs or set(mine) <= set(theirs) or set(theirs) <= set(mine)


def masked(struct: msgspec.Struct, *secret: str) -> str:
    """The repr of a struct without its secrets: for tracebacks and log lines."""
    shown = (f"{name}={'***' if name in secret else repr(getattr(struct, name))}" for name in struct.__struct_fields__)
    return f"{type(struct).__name__}({', '.join(shown)})"
