"""One logging set-up for every process: key=value lines on stderr, with the time and its zone."""

from __future__ import annotations

import logging
import sys


def set_up(level: int = logging.INFO) -> None:
    """Log to stderr; init collects it."""
    logging.Formatter.default_msec_format = "%s.%03d"
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
