"""Two real carpd, and the test as the fenced of each, on its real socket."""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from middlewared.kernel.facts import Node, Vip
from middlewared.protocol import hub
from tests.integration.conftest import Host, Lan, until

VIP, VIP_6 = "192.0.2.10", "2001:db8::10"
MAC = "00:00:5e:00:01:07"
KEY = b"k" * 32

SETTINGS = hub.Settings(
    paired=True,
    cluster_id="c",
    key=KEY,
    disabled=False,
    default_node="A",
    timeout_s=0.0,
    single_term=0,
    vips=(Vip(vhid=7, address=VIP, prefix=24, interface="eth0"),),
)
STANDBY = hub.Standing(
    role="STANDBY",
    term=1,
    since=0.0,
    said_at=0.0,
    why="the test says so",
    rule="R",
    record=None,
    voters=(),
    peer_interlink_at=None,
    peer_advert_at=None,
    peer_disk_at=None,
    settled=True,
    resigned=False,
    scheduling="",
)


def owner(term: int) -> hub.Standing:
    return msgspec.structs.replace(STANDBY, role="OWNER", term=term, serves=True)


class Fenced:
    """fenced's end of the hub: it says what the test wants and keeps what carpd says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.settings = SETTINGS
        self.standing = STANDBY
        self.heard: hub.Heard | None = None
        self.carp: hub.Carp | None = None
        self.hellos = 0
        self._clients: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._ended = False
        self.open()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def open(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def vanish(self) -> None:
        """As if fenced had been killed and was not started again."""
        assert self._listener is not None
        self._selector.unregister(self._listener)
        self._listener.close()
        for client in self._clients:
            self._selector.unregister(client)
            client.close()
        self._clients = []

    def say(self, standing: hub.Standing) -> None:
        self.standing = standing
        for client in self._clients:
            client.send(hub.encode(standing))

    def state(self) -> hub.CarpState | None:
        return self.carp.vips[0] if self.carp and self.carp.vips else None

    def end(self) -> None:
        self._ended = True
        self._thread.join(5)
        self.vanish()
        self._selector.close()

    def _serve(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.02):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                # The test may have closed it in the meantime.
                with contextlib.suppress(OSError):
                    self._readable(sock)

    def _readable(self, sock: socket.socket) -> None:
        if sock is self._listener:
            client, _ = sock.accept()
            self._clients.append(client)
            self._selector.register(client, selectors.EVENT_READ)
            return
        packet = sock.recv(hub.MAX_PACKET)
        if not packet:
            self._selector.unregister(sock)
            self._clients.remove(sock)
            sock.close()
            return
        match hub.decode_to_fenced(packet):
            case hub.Hello():
                self.hellos += 1
                sock.send(hub.encode(self.settings))
                sock.send(hub.encode(self.standing))
            case hub.Heard() as heard:
                self.heard = heard
            case hub.Carp() as carp:
                self.carp = carp


class Controller:
    """One controller: its namespace, its carpd, and the test as its fenced."""

    def __init__(self, node: Node, host: Host, directory: Path) -> None:
        run_dir = directory / node
        run_dir.mkdir()
        own, peer = (1, 2) if node == "A" else (2, 1)
        self.host = host
        self.fenced = Fenced(run_dir / "fenced.sock")
        self._config = run_dir / "boot.toml"
        self._config.write_text(
            f'node = "{node}"\nrun_dir = "{run_dir}"\n'
            f'[interlink]\ninterface = "il0"\naddress = "169.254.10.{own}"\npeer = "169.254.10.{peer}"\n'
        )

    def start(self) -> None:
        self.carpd: subprocess.Popen[str] = self.host.start(
            sys.executable, "-m", "middlewared.carpd", "--config", str(self._config)
        )

    def has_vip(self) -> bool:
        return self.host.has(VIP)

    def is_in(self, state: str) -> bool:
        carp = self.fenced.state()
        return carp is not None and carp.state == state


class Pair:
    def __init__(self, lan: Lan, directory: Path) -> None:
        self.a = Controller("A", lan.a, directory)
        self.b = Controller("B", lan.b, directory)

    def begin(self) -> None:
        """Both up, A the owner of term 5."""
        self.a.fenced.standing = owner(5)
        self.b.fenced.standing = msgspec.structs.replace(STANDBY, term=5)
        self.a.start()
        self.b.start()
        until(lambda: self.a.is_in("MASTER") and self.b.is_in("BACKUP"), 5, "A is master, B is backup")
        until(lambda: self.b.fenced.heard is not None and self.b.fenced.heard.peer is not None, 3, "B hears A")
