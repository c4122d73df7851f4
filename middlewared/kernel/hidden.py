"""What people are shown instead of a secret."""

from __future__ import annotations

import re

HIDDEN = "********"

_NAMES = re.compile(r"pass(word|phrase)|secret|token|api_key|private_key|otp", re.IGNORECASE)
_SEALED = {"kid", "nonce", "ct"}


def hidden(name: str, value: object) -> object:
    """Plain data as it may be shown under `name`: nothing where the name, or one inside, is a secret's.

    A sealed secret is known by its members, whatever its name is.
    """
    if _NAMES.search(name) and value not in (None, "", True, False):
        return HIDDEN
    match value:
        case dict():
            return HIDDEN if value.keys() >= _SEALED else {key: hidden(str(key), inner) for key, inner in value.items()}
        case list() | tuple():
            return [hidden("", inner) for inner in value]
    return value
