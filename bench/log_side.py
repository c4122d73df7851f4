"""One controller's log as the daemon composes it, without API, fenced and effects: the log layer that is measured.

    python -m bench.log_side DIR NODE PORT          a standby, until its stdin is closed

Two of them on the loopback, each in a process of its own, are a pair: TLS line, replication machine, log.db, state.db.
The record on the shared disks is granted at once. `make_pair` lays out the two directories with keys that know each
other; the owner runs in the bench's own process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import uvloop

from middlewared.config import Interlink
from middlewared.engine import registry
from middlewared.engine.apply import Change
from middlewared.engine.engine import Engine
from middlewared.engine.replicate import Replicator, history
from middlewared.engine.start import committed_state
from middlewared.kernel.event import Position
from middlewared.kernel.facts import Node, PairRecord
from middlewared.protocol import replication_frames as frames
from middlewared.protocol import replication_values as values
from middlewared.protocol.peer_calls import Answer, Ask
from middlewared.protocol.replication import Replica
from middlewared.shell import realtime
from middlewared.shell.clock import SystemClock
from middlewared.shell.identity import Cluster, Keys
from middlewared.shell.peer_link import PeerLine, PeerLink
from middlewared.store.log import LogStore

OWNER, STANDBY = "127.0.0.1", "127.0.0.2"


def make_pair(directory: Path) -> None:
    """The data directories A and B below `directory`, each knowing the other's certificate."""
    keys = {node: Keys(directory / node, node) for node in ("A", "B")}
    cluster = Cluster.new()
    keys["A"].pair(cluster, keys["B"].certificate)
    keys["B"].pair(cluster, keys["A"].certificate)


class LogSide:
    """The log of controller `node` in `directory`/`node`. A listens on `port`, B dials it."""

    def __init__(self, directory: Path, node: Node, port: int) -> None:
        data = directory / node
        plugins = registry.load()
        keys = Keys(data, node)
        assert keys.cluster is not None
        self.log = LogStore.open(data / "log.db")
        self.state = committed_state(plugins, self.log, data / "state.db")
        identity = frames.Identity(cluster_id=keys.cluster.cluster_id, node=node, catalogue=plugins.catalogue.digest())
        state = self.state
        self.replica = Replica(identity, self.log.head(), history(self.log), state.applied, state.pair_seq, state.shape)
        self.engine = Engine(
            plugins, self.state, SystemClock(), node, _Role(), on_change=_ignore, on_cut=_no_cut, on_fatal=_fatal
        )
        self.replicator = Replicator(self.replica, self.log, SystemClock(), data / "quarantine", _granted, self.engine)
        self.engine.attach(self.replicator)
        here, there = (OWNER, STANDBY) if node == "A" else (STANDBY, OWNER)
        interlink = Interlink(interface="lo", address=here, peer=there, port=port)
        self._link = asyncio.get_running_loop().create_task(PeerLink(node, interlink, keys, self).run())

    # --- what the peer link tells ---

    def up(self, line: PeerLine) -> None:
        self.replicator.link_up(line)

    def got(self, line: PeerLine, frame: frames.LineFrame) -> None:
        if self.replicator.line is line and not isinstance(frame, Ask | Answer):
            self.replicator.feed(values.Got(frame))

    def down(self, line: PeerLine) -> None:
        self.replicator.link_down(line)

    # --- roles ---

    def own(self, term: int) -> None:
        """Own `term`, whatever the log holds."""
        self.replicator.feed(values.Owning(term=term, record=None, hash_here=None, forced=True))

    def stand(self) -> None:
        self.replicator.feed(values.Standing(0))

    async def close(self) -> None:
        self._link.cancel()
        await asyncio.gather(self._link, return_exceptions=True)
        await self.replicator.close()
        await self.state.close()
        self.log.close()


class Follower:
    """Controller B in a process of its own, on one processor. Killed by its own pid, whatever ends the bench."""

    def __init__(self, directory: Path, port: int, processor: int) -> None:
        argv = [sys.executable, "-m", "bench.log_side", str(directory), "B", str(port)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE)
        os.sched_setaffinity(self._process.pid, {processor})

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(5)


class _Role:
    """What the engine asks about its controller's role."""

    closing: str | None = None

    def active_urls(self) -> tuple[str, ...]:
        return ()

    def is_standby(self) -> bool:
        return False

    def is_sure(self) -> bool:
        return True

    def why(self) -> str:
        return "the bench says so"


def _ignore(_: list[Change]) -> None:
    return


async def _no_cut(at: Position, count: int, applied: bool) -> None:
    raise SystemExit(f"the bench's log was cut after seq {at.seq}: {count} records, applied {applied}")


def _fatal(why: str) -> None:
    raise SystemExit(why)


async def _granted(_: PairRecord) -> bool:
    return True


async def _stand_by(directory: Path, node: Node, port: int) -> None:
    realtime.spare_collector()
    side = LogSide(directory, node, port)
    side.stand()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    await side.close()


if __name__ == "__main__":
    uvloop.run(_stand_by(Path(sys.argv[1]), "A" if sys.argv[2] == "A" else "B", int(sys.argv[3])))
