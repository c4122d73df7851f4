"""The calls of the kernel that a lab is made of and that Python 3.11 does not have.

See namespaces(7), mount(2), prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from middlewared.kernel.errors import PortFailed

NEWNS = 0x00020000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWUSER = 0x10000000
NEWPID = 0x20000000
NEWNET = 0x40000000

MACHINE = NEWNET | NEWNS | NEWPID | NEWUTS | NEWIPC
"""What a controller or a client has of its own."""

MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int, purpose: str) -> None:
    """Leave the shared namespaces for new ones. Raises PortFailed; the process must have one thread only."""
    _checked(_libc.unshare(flags), purpose)


def enter(pid: int) -> None:
    """Enter every namespace of `pid` that is not ours already, and its root directory. A fork then is in its pid space.

    The root must be entered too: a mount namespace's own root lies outside of a chroot that the lab may run in.
    Raises PortFailed.
    """
    names = [n for n in ("user", "ipc", "uts", "net", "pid", "mnt") if _link(pid, n) != _link(os.getpid(), n)]
    try:
        root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
        handles = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in names]
    except OSError as e:
        raise PortFailed("enter the machine", f"{e.filename}: {e.strerror}") from None
    for name, handle in zip(names, handles, strict=True):
        _checked(_libc.setns(handle, 0), f"enter its {name} namespace")
        os.close(handle)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


def become_root_here() -> None:
    """Enter a new user namespace in which this user is root. Raises PortFailed where the system does not allow it."""
    uid, gid = os.getuid(), os.getgid()
    unshare(NEWUSER, "make a user namespace (run as root where the system does not allow them)")
    for file, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            Path(f"/proc/self/{file}").write_text(line)
        except OSError as e:
            raise PortFailed("become root in the user namespace", f"{file}: {e.strerror}") from None


def leave_host() -> None:
    """Enter own network and mount namespaces; a user namespace is made only where there is no other way to them."""
    purpose = "make the lab's namespaces"
    try:
        unshare(NEWNET | NEWNS, purpose)
    except PortFailed:
        become_root_here()
        unshare(NEWNET | NEWNS, purpose)
    make_mounts_private()


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Raises PortFailed, naming the target."""
    arguments = (
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(_libc.mount(*arguments), f"mount {kind or source} on {target}")


def make_mounts_private() -> None:
    """Nothing that is mounted from here on is seen outside. A chroot's root need not be a mount: bind it then."""
    if _libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) != 0:
        raise PortFailed("make the mounts private", "/ is not a mount point: bind-mount the root on itself first")


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent's thread ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "die with the parent")


def members(pid: int) -> list[int]:
    """Every process of the pid namespace of `pid`, as seen from here; [] when it is gone."""
    wanted = _link(pid, "pid")
    if not wanted:
        return []
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _link(int(p.name), "pid") == wanted]


def state_of(pid: int) -> str:
    """The letter of proc_pid_stat(5): T is stopped; "" when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _link(pid: int, name: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/{name}").readlink())
    except OSError:
        return ""


def _checked(result: int, purpose: str) -> None:
    if result != 0:
        raise PortFailed(purpose, os.strerror(ctypes.get_errno()))
