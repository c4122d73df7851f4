"""The committed state as a process finds it: state.db opened or made again, and what the log holds after it."""

from __future__ import annotations

import logging
from pathlib import Path

from middlewared import log_format
from middlewared.engine.apply import CommittedState
from middlewared.engine.registry import Registry
from middlewared.kernel.errors import Refused
from middlewared.kernel.tenure import TermBegan
from middlewared.store.log import LogStore
from middlewared.store.rebuild import open_state, rebuild
from middlewared.store.rows import words
from middlewared.store.state import StateStore

log = logging.getLogger(__name__)

READ_BATCH = 4096


def committed_state(registry: Registry, reader: LogStore, path: Path) -> CommittedState:
    """Open the state.db at `path` for this log. Raises LogDamaged and PortFailed as store.rebuild.open_state does."""
    store, why, difference = open_state(path, reader, registry.catalogue, registry.nouns.values())
    state = CommittedState(registry, store, reader)
    at = state.applied.seq
    if why is not None:
        log.warning("event=state_rebuilt why=%r", why)
    if difference is not None:
        log.error("event=state_differs seq=%d repaired_from=log %s", at, words(difference))
        state.differs = (at, f"at the start, repaired from the log: {words(difference)}")
    while batch := reader.since(at, READ_BATCH):
        state.follow(batch)
        at = batch[-1].seq
    return state


def rebuilt(registry: Registry, reader: LogStore, path: Path, upto: int) -> StateStore:
    """A state.db that is folded anew, up to record `upto`."""
    nouns = list(registry.nouns.values())
    rebuild(reader, path, registry.catalogue, nouns, upto)
    return StateStore.open(path, nouns)


def refuse_own_events(log: LogStore) -> None:
    """Raises Refused for the first event that somebody asked for; a new log holds only terms and its format."""
    at = 0
    while batch := log.since(at, READ_BATCH):
        for record in batch:
            if record.kind not in (TermBegan.kind, log_format.Raised.kind):
                why = f"this controller has been configured ({record.kind} is in its log)"
                raise Refused(("discard_mine", f"{why}; its log would be set aside whole"))
        at = batch[-1].seq
