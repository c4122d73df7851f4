from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests import planted

SECRET = b"correct horse/battery"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        b"x" + SECRET.hex().encode() + b"y",
        SECRET.hex().upper().encode(),
        b"correct horse\\/battery",
        *(base64.b64encode(b"p" * before + SECRET + b"p" * after) for before in range(4) for after in range(4)),
        base64.urlsafe_b64encode(SECRET),
    ],
)
def test_a_secret_is_found_however_it_was_written(written: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\0" * (planted.PIECE - 10) + written + b"\0" * 99)
    assert planted.found_in_files([file], {"password": SECRET}) == {str(file): {"password"}}


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"correct horse / battery")
    assert planted.found_in_files([file], {"password": SECRET}) == {}
