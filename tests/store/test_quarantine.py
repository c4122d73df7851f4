"""Quarantine files prove themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from middlewared.kernel.errors import LogDamaged, PortFailed
from middlewared.kernel.event import Record
from middlewared.store import quarantine

Chain = Callable[..., list[Record]]


def test_what_was_written_is_read_back(tmp_path: Path, chain: Chain) -> None:
    records = chain(9)[4:]
    file, digest = quarantine.write(tmp_path / "aside", "1-5-9", records)
    assert file == tmp_path / "aside" / "1-5-9.log"
    assert quarantine.sha256(file) == digest
    assert list(quarantine.read(file)) == records
    assert [path.name for path in file.parent.iterdir()] == [file.name], "no partial file is left"


def test_a_changed_line_is_found_by_its_hash(tmp_path: Path, chain: Chain) -> None:
    file, _ = quarantine.write(tmp_path, "x", chain(3))
    file.write_bytes(file.read_bytes().replace(b'"admin"', b'"nimda"', 2).replace(b'"nimda"', b'"admin"', 1))
    with pytest.raises(LogDamaged, match="seq 2: its bytes do not give its hash"):
        list(quarantine.read(file))


def test_a_missing_line_is_found(tmp_path: Path, chain: Chain) -> None:
    file, _ = quarantine.write(tmp_path, "x", chain(3))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[2])
    with pytest.raises(LogDamaged, match="seq 3 where 2 belongs"):
        list(quarantine.read(file))


def test_a_half_line_is_found(tmp_path: Path, chain: Chain) -> None:
    file, _ = quarantine.write(tmp_path, "x", chain(2))
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(LogDamaged, match="seq 2: a line is not a record"):
        list(quarantine.read(file))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PortFailed, match=r"nothing\.log: No such file"):
        list(quarantine.read(tmp_path / "nothing.log"))


def test_records_with_and_without_a_method_are_read_from_one_file(tmp_path: Path, chain: Chain) -> None:
    first = chain(2)
    second = chain(1, first[-1].position, method="shelf.fill")
    older = b"".join(msgspec.json.encode(msgspec.structs.astuple(record)[:11]) + b"\n" for record in first)
    path = tmp_path / "x.log"
    path.write_bytes(older + quarantine.line(second[0]))
    assert list(quarantine.read(path)) == first + second


def test_a_long_file_is_read_in_pages_that_make_up_the_whole(tmp_path: Path, chain: Chain) -> None:
    records = chain(50)
    file, _ = quarantine.write(tmp_path, "x", records)
    offset: int | None = 0
    read: list[Record] = []
    pages = 0
    while offset is not None:
        page = quarantine.page(file, offset, limit=4000)
        read += page.records
        offset = page.next
        pages += 1
    assert read == records
    assert pages > 1


def test_a_page_of_a_damaged_or_a_missing_file_is_refused(tmp_path: Path, chain: Chain) -> None:
    file, _ = quarantine.write(tmp_path, "x", chain(2))
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(LogDamaged, match="seq 2: a line is not a record"):
        quarantine.page(file, 0)
    with pytest.raises(PortFailed, match=r"nothing\.log: No such file"):
        quarantine.page(tmp_path / "nothing.log", 0)


@pytest.mark.parametrize(
    ("name", "answered"),
    [
        ("3-6-9-a2.log", 2),
        ("3-6-9-a0-0123456789abcdef.log", 0),
        ("3-6-9.log", None),
        ("3-6-9-0123456789abcdef.log", None),
        ("x", None),
    ],
)
def test_the_name_of_a_file_says_how_many_of_its_records_were_answered(name: str, answered: int | None) -> None:
    assert quarantine.answered_in(name) == answered


def test_what_is_given_up_is_gone_and_may_be_given_up_again(tmp_path: Path, chain: Chain) -> None:
    file, _ = quarantine.write(tmp_path, "x", chain(2))
    quarantine.remove(file)
    quarantine.remove(file)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PortFailed, match="give up records"):
        quarantine.remove(tmp_path)
