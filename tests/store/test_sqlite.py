"""Many rows in few statements."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from middlewared.store import sqlite


@pytest.mark.parametrize("count", [0, 1, sqlite.ROWS[-1], sum(sqlite.ROWS) + sqlite.ROWS[0] + 3])
def test_every_row_is_inserted_once_and_in_its_order(count: int) -> None:
    rows = [(n, str(n), bytes([n % 256])) for n in range(count)]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (n INTEGER, text TEXT, bytes BLOB)")
        sqlite.insert(connection.cursor(), "INSERT INTO t (n, text, bytes) VALUES (?, ?, ?)", rows)
        assert connection.execute("SELECT n, text, bytes FROM t ORDER BY rowid").fetchall() == rows
