"""The keys of this controller's secrets, and the work with them: ports.Secrets by ChaCha20-Poly1305.

`keys/secrets.json` {active, keys}: mode 0600, durable before a key is used, never in the log. Where the first key comes
from:

    a pair                      derived from the cluster's key: both have it, so nothing has to be sent
    joining a pair              the first controller's keys, in the pairing; its own stay beside them
    a controller by itself      drawn when the first secret is to be closed

Further ones are drawn by `system.secrets.rewrap`. A nonce is drawn for each envelope: 2^32 under one key are safe, and
this configuration holds a few. Source: RFC 8439.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.secret import KeyBundle, Sealed, bound_to
from middlewared.shell.identity import Keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NONCE_SIZE = 12
KEY_SIZE = 32


class Keyring:
    """Everything that touches a file or a cipher runs in a thread; the cipher's library is loaded when it is needed."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._bundle = keys.secret_keys
        self.on_change: Callable[[tuple[str, ...]], None] = lambda ids: None
        """Told the ids of all keys after one was added or dropped."""

    def ids(self) -> tuple[str, ...]:
        """The ids of the keys that are held, sorted."""
        return tuple(sorted(self._bundle.keys)) if self._bundle is not None else ()

    @property
    def active(self) -> str | None:
        return self._bundle.active if self._bundle is not None else None

    def bundle(self) -> KeyBundle | None:
        return self._bundle

    async def seal(self, noun: str, field: str, text: str, kid: str | None = None) -> Sealed:
        """Close `text` into an envelope for this field of this noun. kid None: under the active key.

        Raises PortFailed for a key that is not held.
        """
        sealed = await asyncio.to_thread(self._seal, noun, field, text, kid)
        self.on_change(self.ids())
        return sealed

    async def open(self, noun: str, field: str, sealed: Sealed) -> str:
        """What is in an envelope. Raises PortFailed: no such key, or not what was closed there."""
        return await asyncio.to_thread(self._open, noun, field, sealed)

    async def add_key(self) -> str:
        """Draw a key, keep it, and do not use it yet. Returns its id."""
        kid = await asyncio.to_thread(self._add_key)
        self.on_change(self.ids())
        return kid

    async def activate(self, kid: str) -> None:
        """Close new envelopes with this key. Raises PortFailed where it is not held."""
        await asyncio.to_thread(self._activate, kid)

    async def merge(self, bundle: KeyBundle) -> None:
        """Hold these keys too, and use the one that is active there."""
        await asyncio.to_thread(self._merge, bundle)
        self.on_change(self.ids())

    async def drop(self, kid: str) -> None:
        """Forget a key that is not the active one: what it closed cannot be opened any more."""
        await asyncio.to_thread(self._drop, kid)
        self.on_change(self.ids())

    def _seal(self, noun: str, field: str, text: str, kid: str | None) -> Sealed:
        with self._lock:
            if self._bundle is None:
                self._keep(self._keys.secret_keys or _new_bundle())
        kid = kid or self._bundle.active  # type: ignore[union-attr]  # made above
        nonce = os.urandom(NONCE_SIZE)
        return Sealed(kid, nonce, self._cipher(kid).encrypt(nonce, text.encode(), bound_to(noun, field)))

    def _open(self, noun: str, field: str, sealed: Sealed) -> str:
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher(sealed.kid).decrypt(sealed.nonce, sealed.ct, bound_to(noun, field)).decode()
        except (InvalidTag, ValueError):
            why = f"it is not what key {sealed.kid} closed there"
            raise PortFailed(f"open the secret {noun} {field}", why) from None

    def _cipher(self, kid: str) -> ChaCha20Poly1305:
        # Imported here: carpd and fenced never need it, and it costs every start 50 ms.
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        key = self._bundle.keys.get(kid) if self._bundle is not None else None
        if key is None:
            raise PortFailed("open or close a secret", f"this controller does not hold its key {kid}")
        return ChaCha20Poly1305(key)

    def _add_key(self) -> str:
        with self._lock:
            made = _new_bundle()
            held = self._bundle or made
            self._keep(KeyBundle(held.active, {**held.keys, **made.keys}))
            return made.active

    def _activate(self, kid: str) -> None:
        with self._lock:
            if self._bundle is None or kid not in self._bundle.keys:
                raise PortFailed("use a key for secrets", f"this controller does not hold key {kid}")
            self._keep(KeyBundle(kid, self._bundle.keys))

    def _merge(self, bundle: KeyBundle) -> None:
        with self._lock:
            held = self._bundle.keys if self._bundle is not None else {}
            self._keep(KeyBundle(bundle.active, {**held, **bundle.keys}))

    def _drop(self, kid: str) -> None:
        with self._lock:
            if self._bundle is not None and kid != self._bundle.active:
                left = {name: key for name, key in self._bundle.keys.items() if name != kid}
                self._keep(KeyBundle(self._bundle.active, left))

    def _keep(self, bundle: KeyBundle) -> None:
        self._keys.keep_secret_keys(bundle)
        self._bundle = bundle


def _new_bundle() -> KeyBundle:
    kid = secrets.token_hex(4)
    return KeyBundle(kid, {kid: secrets.token_bytes(KEY_SIZE)})
