"""A row of the standby's state.db is changed by a hand, while it is off. Needs root."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
import pytest

from middlewared.lab.driver import Pair
from tests.integration.conftest import write_at_vip

pytestmark = pytest.mark.root

NOTICED_S = 10.0


class Sync(msgspec.Struct, kw_only=True):
    """What is read of failover.sync.status here."""

    applied_seq: int
    digest_equal_at_seq: int
    state_differs: str | None


def sync(pair: Pair) -> Sync:
    return msgspec.convert(pair.call("B", "failover.sync.status"), Sync)


def alerts(pair: Pair) -> list[tuple[str, str]]:
    told = msgspec.convert(pair.call("A", "alert.list"), list[dict[str, object]])
    return [(str(alert["klass"]), str(alert["node"])) for alert in told]


@pytest.mark.parametrize(
    ("also", "found"),
    [
        ("SELECT 1", "at the start, repaired from the log"),
        # As a file of the build before digests: what it shows is believed, until it is compared with the other one's.
        ("UPDATE applied SET digest = '', shape = ''", "repaired from the log"),
    ],
)
def test_a_changed_row_is_noticed_repaired_and_shown(pair: Pair, also: str, found: str) -> None:
    write_at_vip(pair, domain="good.test")
    pair.power_off("B")
    with closing(sqlite3.connect(pair.layout.machine("B") / "state.db", isolation_level=None)) as database:
        database.execute("UPDATE network_configuration SET domain = 'bad.test'")
        database.execute(also)
    pair.power_on("B")
    pair.wait_until("B follows again", lambda: pair.is_whole("A"), NOTICED_S)
    write_at_vip(pair, nameserver1="10.0.0.53")
    pair.wait_until("the row is shown", lambda: "column='domain'" in (sync(pair).state_differs or ""), NOTICED_S)
    told = sync(pair).state_differs
    assert told is not None
    assert found in told
    # What stood there depends on how much of state.db the power loss had left.
    assert "table='network_configuration' key='[1]' column='domain' here='\"bad.test\"' there=" in told
    assert ("StateDiffers", "B") in alerts(pair)
    config = msgspec.convert(pair.call("B", "network.configuration.config"), dict[str, object])
    assert config["domain"] == "good.test"
    pair.wait_until("both are equal", lambda: sync(pair).digest_equal_at_seq == sync(pair).applied_seq, NOTICED_S)
    assert pair.sync("A").state_digest == pair.sync("B").state_digest
