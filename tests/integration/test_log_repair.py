"""A record in B's log.db is changed by a hand, while it is off; the log comes back from A. Needs root."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from middlewared.kernel.errors import LogDamaged
from middlewared.lab.driver import Pair
from middlewared.store.schema import NO_UPDATE
from middlewared.store.verify import verify
from tests.integration.conftest import records, write_at_vip

pytestmark = [pytest.mark.root, pytest.mark.full]


def test_a_damaged_log_is_replaced_by_the_other_controllers_and_nothing_is_lost(pair: Pair) -> None:
    for n in range(5):
        write_at_vip(pair, domain=f"before{n}.test")
    pair.wait_until("both are level", lambda: pair.is_whole("A"), 10.0)
    pair.power_off("B")
    with closing(sqlite3.connect(pair.layout.machine("B") / "log.db", isolation_level=None)) as database:
        seq = database.execute("SELECT max(seq) - 2 FROM event").fetchone()[0]
        database.execute("DROP TRIGGER event_no_update")
        database.execute("UPDATE event SET actor = 'mallory' WHERE seq = ?", (seq,))
        database.execute(NO_UPDATE)
    write_at_vip(pair, domain="while-off.test")
    pair.power_on("B")
    pair.wait_until("B is up", lambda: pair.execute("B", "true").returncode == 0, 10.0)
    checked = pair.execute("B", "middlewared", "log", "verify")
    assert checked.returncode == 1
    assert f"seq {seq}: its bytes do not give its hash" in checked.stderr
    pair.wait_until("A shows that B is away", lambda: "PeerUnreachable" in str(pair.call("A", "alert.list")), 10.0)
    write_at_vip(pair, domain="while-damaged.test")
    repaired = pair.execute("B", "middlewared", "log", "repair", "--yes")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert f"seq {seq}: its bytes do not give its hash" in repaired.stdout
    write_at_vip(pair, domain="while-fetching.test")
    pair.wait_until("B follows again", lambda: pair.is_whole("A"), 15.0)
    assert records(pair, "A") == records(pair, "B")
    aside = max((pair.layout.machine("B") / "set-aside").iterdir())
    with pytest.raises(LogDamaged, match=f"seq {seq}: its bytes do not give its hash"):
        verify(aside / "log.db")
