from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from middlewared.fenced.watch import LIMIT_S, Absence, watch


def looks(absence: Absence, there: bool, begin: float, end: float) -> bool:
    """Look each 0.1 s; the last answer."""
    gone = False
    while begin < end - 1e-9:
        begin += 0.1
        gone = absence.look(there, begin)
    return gone


def test_a_fenced_that_was_never_there_is_not_gone() -> None:
    assert not looks(Absence(1.0, 0.0), False, 0.0, 60.0)


def test_one_that_was_there_is_gone_after_the_limit() -> None:
    absence = Absence(1.0, 0.0)
    looks(absence, True, 0.0, 5.0)
    assert not looks(absence, False, 5.0, 6.0)
    assert looks(absence, False, 6.0, 6.2)


def test_one_that_comes_back_begins_anew() -> None:
    absence = Absence(1.0, 0.0)
    looks(absence, True, 0.0, 1.0)
    looks(absence, False, 1.0, 1.9)
    looks(absence, True, 1.9, 2.0)
    assert not looks(absence, False, 2.0, 3.0)


def test_time_in_which_the_watch_itself_stood_still_does_not_count() -> None:
    absence = Absence(1.0, 0.0)
    looks(absence, True, 0.0, 1.0)
    assert not absence.look(False, 1.1)
    assert not absence.look(False, 9.0)
    assert not looks(absence, False, 9.0, 9.9)
    assert looks(absence, False, 9.9, 10.1)


def test_a_socket_that_nobody_holds_any_more_ends_the_controller_once(tmp_path: Path) -> None:
    path = str(tmp_path / "fenced.sock")
    ends: list[str] = []
    watching = threading.Thread(target=watch, args=(path, ends.append), daemon=True)
    watching.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as fenced:
        fenced.bind(path)
        fenced.listen()
        line, _ = fenced.accept()
    line.close()
    lost = time.monotonic()
    watching.join(10)
    assert ends == ["fenced has been gone for 1 s"]
    assert time.monotonic() - lost >= LIMIT_S - 0.05


def test_the_first_line_says_what_real_time_treatment_was_got(tmp_path: Path) -> None:
    boot = tmp_path / "boot.toml"
    boot.write_text(f'node = "A"\nrun_dir = "{tmp_path}"\ndata_dir = "/nowhere"\n')
    argv = [sys.executable, "-m", "middlewared.fenced", "--watch", "--config", str(boot)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        readable, _, _ = select.select([watching.stderr], [], [], 20)
        line = watching.stderr.readline() if readable else ""
        watching.kill()
    assert "process=fenced-watch event=start scheduling=" in line
    assert "gc frozen" in line
