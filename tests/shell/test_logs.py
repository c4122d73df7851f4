from __future__ import annotations

import subprocess
import sys
from datetime import datetime

PROGRAM = """
import logging
from middlewared.shell import logs
logs.set_up()
logging.getLogger("some.module").info("event=ready n=%d", 3)
logging.getLogger("some.module").debug("event=detail")
logging.getLogger("alembic.runtime").info("upgrading")
"""


def test_a_line_has_the_time_with_its_zone_the_level_and_the_event_and_goes_to_stderr() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=20)
    (line,) = done.stderr.splitlines()
    time, rest = line.split(" ", 1)
    assert rest == "level=INFO logger=some.module event=ready n=3"
    assert datetime.fromisoformat(time).utcoffset() is not None
    assert abs(datetime.fromisoformat(time).timestamp() - datetime.now().astimezone().timestamp()) < 20
    assert done.stdout == ""
