"""`middlewared-lab exec`: a command in all namespaces of a machine, with this terminal, stdin and exit status.

nsenter(1) is not used here: when its child is stopped it stops itself, and after a freeze and thaw it would stay so.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from types import FrameType

from middlewared.lab import namespaces
from middlewared.lab.init import service_path

NOT_FOUND = 127
NOT_EXECUTABLE = 126
OFF = 125


def run(pid: int, argv: Sequence[str]) -> int:
    """Run `argv` in the machine whose pid 1 is `pid`; its exit status, 128 + n when signal n ended it.

    Raises PortFailed when the machine cannot be entered.
    """
    here = os.getcwd()  # noqa: PTH109 - a path of the other side, nothing is done with it here
    namespaces.enter(pid)
    child = os.fork()
    if child == 0:
        _become(argv, here)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    # The terminal's own signals reach the child directly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _become(argv: Sequence[str], directory: str) -> None:
    """The child: the same directory where the machine has it, its PATH, then the command."""
    try:
        os.chdir(directory)
    except OSError:
        os.chdir("/")
    environment = {**os.environ, "PATH": service_path()}
    try:
        os.execvpe(argv[0], list(argv), environment)  # noqa: S606
    except FileNotFoundError:
        _fail(argv[0], "not found", NOT_FOUND)
    except OSError as e:
        _fail(argv[0], e.strerror or "cannot be run", NOT_EXECUTABLE)


def _fail(command: str, why: str, status: int) -> None:
    os.write(2, f"middlewared-lab: {command}: {why}\n".encode())
    os._exit(status)
