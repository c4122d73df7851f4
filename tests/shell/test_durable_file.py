from __future__ import annotations

from pathlib import Path

import pytest

from middlewared.shell import durable_file


def test_the_content_takes_the_place_of_the_old_one_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "boot.toml"
    file.write_text("old")
    file.chmod(0o644)
    durable_file.replace(file, b"new")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o600)
    durable_file.replace(file, b"newer", mode=0o644)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("newer", 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["boot.toml"]


def test_where_it_cannot_be_written_the_old_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "boot.toml"
    file.write_text("old")
    (tmp_path / ".boot.toml").mkdir()
    with pytest.raises(OSError, match="directory"):
        durable_file.replace(file, b"new")
    assert file.read_text() == "old"
