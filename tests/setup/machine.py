"""A controller whose pid 1 is the systemd of this machine, in namespaces of its own. Needs root and a cgroup2 mount.

Its /etc and /var are overlays in memory; its units are ours and the few targets on which they stand, so that nothing of
this machine's own boot runs in it: no udev, no sysctl, no cleaning of /tmp. A reboot ends it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from middlewared.setup import units

BINARIES = Path(sys.executable).parent
DATA = "/var/lib/middlewared"
SYSTEMD = Path("/lib/systemd/systemd")
WITHIN_S = 20.0

_numbers = itertools.count(1)

_TARGETS = {
    "sysinit.target": "DefaultDependencies=no",
    "basic.target": "DefaultDependencies=no\nRequires=sysinit.target\nAfter=sysinit.target",
    "multi-user.target": "Requires=basic.target\nAfter=basic.target\nAllowIsolate=yes",
    "shutdown.target": "DefaultDependencies=no",
    "network.target": "",
    "poweroff.target": "DefaultDependencies=no\nRequires=systemd-poweroff.service\nAfter=systemd-poweroff.service",
    "systemd-poweroff.service": "DefaultDependencies=no\nRequires=shutdown.target\nAfter=shutdown.target\n"
    "SuccessAction=poweroff-force",
}
_BOOT = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
for d in etc var; do
    mkdir -p /run/.over/$d /run/.work/$d
    mount -t overlay -o lowerdir=/$d,upperdir=/run/.over/$d,workdir=/run/.work/$d overlay /$d
done
mkdir -p {data}
rm -rf /etc/systemd /etc/middlewared.toml; cp -r {dir}/etc/. /etc/
for watchdog in /dev/watchdog*; do [ ! -e $watchdog ] || mount --bind /dev/null $watchdog; done
ip link set lo up
exec env -i container=test SYSTEMD_UNIT_PATH=/etc/systemd/system PATH="$PATH" \\
    {systemd} --system --unit=multi-user.target --log-target=console --show-status=no
"""


def cgroup2() -> Path | None:
    """Where the one hierarchy is mounted."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)


class Machine:
    """Use as a context manager. directory: an empty one. boot_file: None for a machine that is no controller yet."""

    def __init__(self, directory: Path, boot_file: str | None) -> None:
        self._dir = directory
        self._pid = 0
        root = cgroup2()
        assert root is not None
        self._cgroup = root / f"mw-test-{os.getpid()}-{next(_numbers)}"
        system = directory / "etc/systemd/system"
        system.mkdir(parents=True)
        if boot_file is not None:
            units.install(units.files(BINARIES, DATA), directory)
            (directory / "etc/middlewared.toml").write_text(boot_file)
        for name, text in _TARGETS.items():
            (system / name).write_text(f"[Unit]\n{text}\n")
        (system / "service.d").mkdir()
        (system / "service.d/log.conf").write_text("[Service]\nStandardOutput=append:/run/log\nStandardError=inherit\n")
        (directory / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")

    def __enter__(self) -> Machine:
        self._cgroup.mkdir()
        script = _BOOT.format(dir=shlex.quote(str(self._dir)), systemd=SYSTEMD, data=DATA)
        enter = (
            f"echo $$ > {self._cgroup}/cgroup.procs; exec unshare -mpfuinC --kill-child bash -c {shlex.quote(script)}"
        )
        with (self._dir / "console").open("wb") as console:
            self._process = subprocess.Popen(
                ["bash", "-c", enter], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        try:
            self.until("pid 1 is there", self._find_pid)
            self.until("it answers", lambda: self.run("systemctl", "show", "-p", "Version").returncode == 0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self.until("its cgroups are empty", lambda: _removed(self._cgroup))

    def _find_pid(self) -> bool:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._pid = int(children[0]) if children else 0
        return self._pid != 0 and Path(f"/proc/{self._pid}/comm").read_text().strip() == "systemd"

    def plug(self, interface: str, other: Machine | None = None) -> None:
        """Give it an interface whose cable ends in the other machine, or in a second interface of its own."""
        there = self._pid if other is None else other._pid
        name = "other" if other is None else interface
        argv = [
            "ip",
            "link",
            "add",
            interface,
            "netns",
            str(self._pid),
            "type",
            "veth",
            "peer",
            name,
            "netns",
            str(there),
        ]
        subprocess.run(argv, check=True, timeout=10)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command in the machine."""
        path = f"PATH={BINARIES}:{os.environ['PATH']}"
        enter = ("nsenter", "-t", str(self._pid), "-m", "-p", "-u", "-i", "-n", "--root", "--", "env", path)
        return subprocess.run([*enter, *argv], capture_output=True, text=True, timeout=WITHIN_S * 3, check=False)

    def systemctl(self, *argv: str) -> str:
        done = self.run("systemctl", *argv)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def property(self, unit: str, name: str) -> str:
        return self.systemctl("show", "--value", "-p", name, unit).strip()

    def is_up(self, unit: str) -> bool:
        return self.property(unit, "ActiveState") == "active"

    def pid(self, unit: str) -> int:
        """The main process as the machine numbers it; 0 while there is none."""
        return int(self.property(unit, "MainPID"))

    def signal(self, unit: str, number: signal.Signals) -> None:
        assert self.run("kill", f"-{number.value}", str(self.pid(unit))).returncode == 0

    def log(self) -> str:
        return self.run("cat", "/run/log").stdout

    def until(self, what: str, holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        limit = time.monotonic() + within_s
        while not _holds(holds):
            assert time.monotonic() < limit, f"{what}: not within {within_s} s\n{self._console()}"
            time.sleep(0.05)

    def _console(self) -> str:
        return (self._dir / "console").read_text(errors="replace")[-3000:]


def _holds(question: Callable[[], bool]) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return question()
    return False


def _removed(cgroup: Path) -> bool:
    for directory in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            directory.rmdir()
    with contextlib.suppress(OSError):
        cgroup.rmdir()
    return not cgroup.exists()
