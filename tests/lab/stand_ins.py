"""A lab with stand-in daemons, used as a person uses it: by its command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from middlewared.lab import status, up
from middlewared.lab.down import members_of
from middlewared.lab.layout import Layout
from middlewared.lab.programs import Programs
from middlewared.lab.supervision import Service

DEADLINE_S = 30.0

# Ready, and alive until the file `hush` is there.
BEATING = """
import os, pathlib, socket, sys, time
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
notify.send(b"READY=1")
while True:
    if not pathlib.Path(sys.argv[1]).exists():
        notify.send(b"WATCHDOG=1")
    time.sleep(0.1)
"""

STAND_INS = Programs(
    controller=(
        Service(
            name="vital",
            argv=("sh", "-c", "test ! -e {dir}/broken && exec sleep 1234"),
            log="{dir}/log/vital.log",
            vital_s=1.0,
        ),
        Service(
            name="web",
            argv=(sys.executable, "-m", "http.server", "80", "--directory", "{dir}"),
            log="{dir}/log/web.log",
        ),
        Service(
            name="beating",
            argv=(sys.executable, "-c", BEATING, "{dir}/hush"),
            log="{dir}/log/beating.log",
            watchdog_s=0.6,
        ),
    ),
    shelf=(),
)


class Lab:
    """The command line of one lab."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="mwl-"))
        (self.dir / "programs.json").write_bytes(msgspec.json.encode(STAND_INS))
        self.up: up.Result

    def start(self, command: str, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "middlewared.lab.command", command, "--dir", str(self.dir), *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def run(self, command: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        process = self.start(command, *words)
        try:
            out, err = process.communicate(stdin, timeout=DEADLINE_S)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def ok(self, command: str, *words: str) -> str:
        done = self.run(command, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inside(self, machine: str, script: str) -> str:
        return self.ok("exec", machine, "--", "sh", "-c", script).strip()

    def bring_up(self) -> Lab:
        out = self.ok("up", "--detach", "--stand-ins", str(self.dir / "programs.json"))
        self.up = msgspec.json.decode(out.splitlines()[-1], type=up.Result)
        for node in ("A", "B"):
            until(f"{node}'s web server answers", partial(self.answers, node))
        return self

    def status(self) -> status.Lab:
        return msgspec.json.decode(self.ok("status", "--json"), type=status.Lab)

    def boots(self, node: str) -> bool:
        return self.run("exec", node, "--", "true").returncode == 125

    def answers(self, node: str) -> bool:
        """Whether the node's web server is reached from the host, and is the node's own."""
        try:
            with urllib.request.urlopen(self.up.nodes[node]["url"] + "/middlewared.toml", timeout=0.7) as page:
                text: str = page.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return f'node = "{node}"' in text

    def carrier(self, node: str, link: str) -> str:
        return self.inside(node, f"cat /sys/class/net/{link}/carrier")

    def reaches(self, machine: str, address: str) -> bool:
        """By TCP: refused counts, since it comes back."""
        probe = f"import socket; socket.socket().connect_ex(('{address}', 9)) == 111 or exit(1)"
        return self.run("exec", machine, "--", "timeout", "0.7", sys.executable, "-c", probe).returncode == 0

    def hears(self, receiver: str, address: str, sender: str) -> bool:
        """Whether a datagram arrives."""
        listen = (
            f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('{address}', 7)); s.settimeout(0.5);"
            "print('ready', flush=True); s.recv(1)"
        )
        process = self.start("exec", receiver, "--", sys.executable, "-c", listen)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        send = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'!', ('{address}', 7))"
        self.ok("exec", sender, "--", sys.executable, "-c", send)
        process.communicate(timeout=DEADLINE_S)
        return process.returncode == 0

    def bench(self) -> int:
        return next(pid for pid in members_of(Layout(self.dir)) if b"lab.daemon" in command_of(pid))

    def end(self) -> None:
        self.run("down", "--wipe")
        shutil.rmtree(self.dir, ignore_errors=True)


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def until(what: str, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    limit = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < limit, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
