"""What `auth` takes from outside: processor time for hashing, chance for salts, the clock."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

# About 50 ms on one core of a small controller. One thread: logging in must not starve failing over.
_HASHER = PasswordHasher(time_cost=2, memory_cost=32 * 1024, parallelism=1)
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2")
_NOBODY = f"$argon2id$v=19$m=32768,t=2,p=1${'A' * 22}${'A' * 43}"
"""A hash of no password, in the costs above: a name that is not known takes as long to refuse as one that is."""


async def hash_password(password: str) -> str:
    """The argon2id hash of `password`, with a new salt."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, _HASHER.hash, password)


async def fits(password: str, password_hash: str | None) -> bool:
    """Whether `password` gives `password_hash`. None never fits, and takes as long."""
    loop = asyncio.get_running_loop()
    right = await loop.run_in_executor(_THREAD, _verify, password_hash or _NOBODY, password)
    return right and password_hash is not None


def now() -> float:
    """Seconds on a clock that nobody sets."""
    return time.monotonic()


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False
