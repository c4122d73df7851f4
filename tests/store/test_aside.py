from __future__ import annotations

from pathlib import Path

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.store.aside import set_aside


def test_the_databases_go_to_a_directory_of_their_own_whole(tmp_path: Path) -> None:
    for name in ("log.db", "log.db-wal", "state.db", "lock"):
        (tmp_path / name).write_text(name)
    aside = set_aside(tmp_path)
    assert aside.parent == tmp_path / "set-aside"
    assert {path.name: path.read_text() for path in aside.iterdir()} == {
        name: name for name in ("log.db", "log.db-wal", "state.db")
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "set-aside"]


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "set-aside").write_text("in the way")
    with pytest.raises(PortFailed, match=r"set the log aside: .*set-aside"):
        set_aside(tmp_path)
