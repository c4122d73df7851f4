"""A whole log put away, so that this controller can begin with an empty one. Nothing is deleted.

state.db goes first: a log without projections is folded again, but projections without their log would say that the
log lost records. So a crash between the two leaves a controller that starts with what it had.
"""

from __future__ import annotations

import time
from pathlib import Path

from middlewared.kernel.errors import PortFailed
from middlewared.store.sqlite import sync_directory


def set_aside(data: Path) -> Path:
    """Move the databases of `data` to a new directory set-aside/<time> in it, durable when this returns.

    Nobody may have them open. Returns the new directory; raises PortFailed.
    """
    aside = data / "set-aside" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        aside.mkdir(parents=True)
        for made in (data, aside.parent):
            sync_directory(made)
        for name in ("state.db", "log.db"):
            for path in sorted(data.glob(f"{name}*")):
                path.replace(aside / path.name)
            for changed in (aside, data):
                sync_directory(changed)
    except OSError as e:
        raise PortFailed("set the log aside", f"{e.filename or aside}: {e.strerror}") from None
    return aside
