"""The manifest of `auth`: the namespaces `auth` and `user`."""

from __future__ import annotations

from middlewared.plugin import Plugin

from .login import METHODS
from .user import NOUN

plugin = Plugin(name="auth", nouns=(NOUN,), methods=METHODS)
