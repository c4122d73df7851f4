"""One logging set-up for every process: key=value lines on stderr, with the time and its zone."""

from __future__ import annotations

import datetime
import logging
import sys


def set_up(level: int = logging.INFO) -> None:
    """Log to stderr; init collects it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)


class _Formatter(logging.Formatter):
    """Milliseconds and the zone: logging's own formats have either the one or the other."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return datetime.datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
