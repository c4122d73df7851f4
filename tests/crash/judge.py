"""What must hold about a data directory after a crash, whatever the crash left: it is opened as the daemon opens it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from middlewared.kernel.event import Record
from middlewared.shell.identity import Keys
from middlewared.store import quarantine
from middlewared.store.audit import AuditStore
from middlewared.store.lock import DataDirectory
from middlewared.store.log import LogStore
from middlewared.store.reader import LogReader
from middlewared.store.rebuild import check_beside
from middlewared.store.state import StateStore
from middlewared.store.verify import verify
from tests.crash import workloads


class Wrong(Exception):
    """A promise was broken."""


def acked(said: Sequence[str]) -> int:
    """The highest seq that was answered."""
    return max((int(words.split()[1]) for words in said if words.startswith("acked")), default=0)


@cache
def digest_after(records: tuple[Record, ...]) -> str:
    """The digest of projections that saw these records and nothing else."""
    with TemporaryDirectory() as directory:
        state = StateStore.open(Path(directory) / "state.db", workloads.NOUNS)
        workloads.fold(state, list(records))
        digest = state.digest
        state.close()
    return digest


def judge(name: str, data: Path, said: Sequence[str]) -> int:
    """Open what a crash of workload `name` left in `data`, and go on with it.

    Returns the seq at which the log ends. Raises Wrong, or what the product raises: after a crash it must open.
    """
    if name == "keys":
        _judge_keys(data, said)
        return 0
    with DataDirectory(data):
        if acked(said) > 0 and not (data / "set-aside").exists():
            verify(data / "log.db")
            check_beside(data / "log.db")
        log, state = workloads.opened(data)
        if name == "migrated":
            AuditStore.open(data / "audit.db").close()
        try:
            return _judge_stores(name, log, state, said)
        finally:
            state.close()
            log.close()


def _judge_stores(name: str, log: LogStore, state: StateStore, said: Sequence[str]) -> int:
    found = log.since(0, 1000)
    away = [path for path in log.path.parent.glob("set-aside/*/log.db") if name == "aside" and not found]
    if away:
        with LogReader(away[0]) as whole:
            found = whole.since(0, 1000)
        if len(found) < acked(said):
            raise Wrong(f"what was set aside ends at seq {len(found)}")
        return 0
    if "aside" in said or len(found) < acked(said):
        raise Wrong(f"it ends at seq {len(found)}, and seq {acked(said)} was answered")
    if [r.hash for r in found] not in [[r.hash for r in whole[: len(found)]] for whole in _possible(name)]:
        raise Wrong("it holds records that nobody wrote in that order")
    if name == "cut":
        _judge_cut(log, said)
    # With a method: a log that the crash left in its first schema is migrated here.
    went_on = workloads.chain(1, log.head(), term=9, named_from=1 if name == "migrated" else None)
    log.append(went_on)
    records = (*found, *went_on)
    workloads.fold(state, list(records))
    shown = state.load(workloads.NOUNS)
    if shown != workloads.states_after(list(records)) or state.digest != digest_after(records):
        raise Wrong("the projections show something else than the log")
    if log.verify() != records[-1].position:
        raise Wrong("the log ends elsewhere than it says")
    return len(found)


@cache
def _possible(name: str) -> list[list[Record]]:
    """Every chain of which the log may hold the beginning."""
    whole = workloads.chain(workloads.PREPARED + 12)
    kept = whole[: workloads.KEPT]
    if name == "faults":
        return [[*whole, *workloads.chain(5, whole[-1].position, term=2)]]
    if name == "migrated":
        return [workloads.chain(workloads.PREPARED + 12, named_from=workloads.NAMED_FROM)]
    if name == "cut":
        return [whole[: workloads.PREPARED], [*kept, *workloads.chain(5, kept[-1].position, term=2)]]
    return [whole[: workloads.PREPARED], whole]


def _judge_cut(log: LogStore, said: Sequence[str]) -> None:
    """Either nothing was cut, or exactly what lies in quarantine."""
    tail = workloads.chain(workloads.PREPARED)[workloads.KEPT :]
    cuts = log.cuts()
    if not cuts:
        if "cut" in said or log.head() != tail[-1].position:
            raise Wrong("a cut is not noted")
        return
    aside = list(quarantine.read(log.path.parent / "quarantine" / cuts[0].file))
    if aside != tail or log.head().seq > workloads.KEPT + 5:
        raise Wrong("what was cut does not lie in quarantine")


def _judge_keys(data: Path, said: Sequence[str]) -> None:
    with DataDirectory(data):
        before = (data / "keys" / "node.crt").read_bytes() if "made" in said else None
        keys = Keys(data, "A")
        if before is not None and keys.certificate.encode() != before:
            raise Wrong("the certificate that the peer knows is gone")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(data / "keys" / "node.crt", data / "keys" / "node.key")
        cluster = keys.cluster
        if cluster not in (None, workloads.CLUSTER) or ("paired" in said and cluster is None):
            raise Wrong(f"the cluster is {cluster}")
        if cluster is not None:
            keys.link_context(server=True)
