"""Work in a network and host name of its own: nothing that it sets is seen outside. Needs root."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

import pytest

NEEDS_ROOT = "needs root: a network namespace and a UTS namespace without a user namespace"
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWNET = 0x40000000


def inside(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run `work` in a thread that has left the machine's namespaces; threads and processes it starts are there too."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail(NEEDS_ROOT)
        pytest.skip(NEEDS_ROOT)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_leave_and_run, work).result(timeout=30)


def _leave_and_run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET | _CLONE_NEWUTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    asyncio.run(work())


def ip(*arguments: str) -> str:
    """What ip(8) prints."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10).stdout
