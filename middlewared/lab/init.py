"""Pid 1 of a machine of the lab: what systemd is on hardware.

    python -m middlewared.lab.init SPEC      SPEC: a file with the JSON of `Spec`

First process: leaves every namespace and waits for the second one, which is pid 1 of the new pid namespace. Pid 1 says
`booted` on the bench's socket, where the kernel tells the bench its pid; the bench plugs the cables in and answers
`go`. Then it mounts what a machine has of its own, gives its links their addresses, and starts and watches the services
by the rules of `supervision`. When it ends, the kernel kills all that is in the spec.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from middlewared.kernel.errors import MiddlewareError, PortFailed
from middlewared.lab import namespaces
from middlewared.lab.own import Bind, mount_own
from middlewared.lab.supervision import Action, Alive, Ended, Kill, Ready, Reboot, Service, Start, Supervision, Tick
from middlewared.shell.reboot import REBOOT

MEMBER = "MIDDLEWARED_LAB_MEMBER"
"""Marks every process of a lab with its directory, for a `down` that finds no bench."""

MAX_LOG_BYTES = 16 * 1024 * 1024
_WAIT_FOR_CABLES_S = 20.0


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that pid 1 must know. network: lines for `ip -batch`. member: the lab's directory."""

    name: str
    bench: str
    member: str
    network: tuple[str, ...]
    binds: tuple[Bind, ...]
    services: tuple[Service, ...]


def main() -> None:
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec)
    try:
        namespaces.die_with_parent()
        namespaces.unshare(namespaces.MACHINE, f"make the namespaces of {spec.name}")
        pid = os.fork()
        if pid:
            _close_all_files()
            _, status = os.waitpid(pid, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        namespaces.die_with_parent()
        boot(spec)
    except (MiddlewareError, OSError) as e:
        print(f"{spec.name}: {e}", file=sys.stderr, flush=True)
        os._exit(1)


def boot(spec: Spec) -> None:
    """Never returns but to end the spec."""
    with socket.socket(socket.AF_UNIX) as bench:
        bench.settimeout(_WAIT_FOR_CABLES_S)
        bench.connect(spec.bench)
        bench.sendall(msgspec.json.encode({"verb": "booted", "machine": spec.name}) + b"\n")
        if bench.recv(64).strip() != b'{"ok":"go"}':
            raise PortFailed("boot", "the bench did not plug the cables in")
        mount_own(spec.name, spec.binds)
        socket.sethostname(f"controller-{spec.name.lower()}" if spec.name != "client" else "client")
        run("ip", "-batch", "-", lines=spec.network)
        why = Init(spec).serve()
        bench.sendall(msgspec.json.encode({"verb": "rebooting", "machine": spec.name, "why": why}) + b"\n")


def run(*argv: str, lines: tuple[str, ...]) -> None:
    """Run a system tool with `lines` as its input. Raises PortFailed with what it said."""
    done = subprocess.run(argv, input="\n".join(lines).encode(), capture_output=True, timeout=10, check=False)
    if done.returncode != 0:
        raise PortFailed(" ".join(argv), done.stderr.decode(errors="replace").strip())


class Init:
    """The loop of pid 1: one wait for signals, notifications and the next deadline."""

    def __init__(self, spec: Spec) -> None:
        self._services = {service.name: service for service in spec.services}
        self._member = spec.member
        self._running: dict[int, str] = {}
        self._supervision = Supervision(spec.services, time.monotonic())
        self._poll = select.poll()
        self._notify: dict[int, tuple[str, socket.socket]] = {}
        self._signals, wakeup = socket.socketpair()
        for end in (self._signals, wakeup):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        self._wakeup = wakeup
        self._told_to_reboot = False
        signal.signal(REBOOT, self._reboot)
        self._poll.register(self._signals, select.POLLIN)
        for service in spec.services:
            if service.watchdog_s is not None or service.vital_s is not None:
                self._listen(service.name)

    def serve(self) -> str:
        """Watch the services until the machine must reboot; returns why."""
        pending = self._supervision.receive(Tick(), time.monotonic())
        while True:
            for action in pending:
                if isinstance(action, Reboot):
                    return action.why
                self._do(action)
            if self._told_to_reboot:
                return "it was told to"
            deadline = self._supervision.deadline()
            wait_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000 + 1
            pending = []
            for fd, _ in self._poll.poll(wait_ms):
                pending += self._drain(fd)
            pending += self._supervision.receive(Tick(), time.monotonic())

    def _reboot(self, number: int, frame: object) -> None:
        self._told_to_reboot = True

    def _drain(self, fd: int) -> list[Action]:
        """Take in what came on one file."""
        if fd not in self._notify:
            self._signals.recv(4096)
            return self._reap()
        name, notify = self._notify[fd]
        lines = notify.recv(4096).decode(errors="replace").splitlines()
        actions: list[Action] = []
        if "READY=1" in lines:
            actions += self._supervision.receive(Ready(name), time.monotonic())
        if "WATCHDOG=1" in lines:
            actions += self._supervision.receive(Alive(name), time.monotonic())
        return actions

    def _reap(self) -> list[Action]:
        """Collect every dead child; orphans of the machine end here too."""
        actions: list[Action] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return actions
            if pid == 0:
                return actions
            if (name := self._running.pop(pid, None)) is not None:
                self._say(name, f"ended: {_how(status)}")
                actions += self._supervision.receive(Ended(name), time.monotonic())

    def _do(self, action: Start | Kill) -> None:
        if isinstance(action, Start):
            self._start(self._services[action.name])
            return
        self._say(action.name, f"killed: {action.why}")
        for pid, name in self._running.items():
            if name == action.name:
                os.killpg(pid, signal.SIGKILL)

    def _start(self, service: Service) -> None:
        log = Path(service.log)
        if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as out:
            child = subprocess.Popen(
                service.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment(service),
                pass_fds=service.fds,
                start_new_session=True,
                cwd="/",
            )
        child.returncode = 0  # `_reap` collects its end; the Popen object must not wait for it
        self._running[child.pid] = service.name
        self._say(service.name, f"started, pid {child.pid}")

    def _environment(self, service: Service) -> dict[str, str]:
        environment = {
            "PATH": service_path(),
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            MEMBER: self._member,
        }
        if service.watchdog_s is not None or service.vital_s is not None:
            environment["NOTIFY_SOCKET"] = f"/run/{service.name}.notify"
        if service.watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(int(service.watchdog_s * 1e6))
        return environment

    def _listen(self, name: str) -> None:
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(f"/run/{name}.notify")
        self._notify[notify.fileno()] = (name, notify)
        self._poll.register(notify, select.POLLIN)

    def _say(self, name: str, what: str) -> None:
        print(f"{time.monotonic():.3f} {name} {what}", file=sys.stderr, flush=True)


def service_path() -> str:
    """PATH in a machine: the product's own commands first."""
    return f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _close_all_files() -> None:
    """The first process only waits: it must not hold the machine's sockets open."""
    os.closerange(3, 4096)


if __name__ == "__main__":
    main()
