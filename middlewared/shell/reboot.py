"""How a controller ends itself: at once, with nothing closed, nothing unmounted and nothing said."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Literal

from middlewared.kernel.errors import PortFailed

REBOOT = signal.SIGRTMIN + 15
"""What systemd(1) as pid 1 takes for "reboot immediately", and so does the init of the lab."""

_SYSRQ = Path("/proc/sysrq-trigger")


def reboot(way: Literal["init", "sysrq"]) -> None:
    """Raises PortFailed where the way is barred. It may return before the end comes."""
    try:
        if way == "init":
            os.kill(1, REBOOT)
        else:
            _SYSRQ.write_text("b")
    except OSError as e:
        raise PortFailed(f"reboot by {way}", e.strerror or str(e)) from None
