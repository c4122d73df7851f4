"""Where a lab may lie, and the boot files that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from middlewared import config
from middlewared.kernel.errors import PortFailed
from middlewared.lab.layout import LAN, SOCKET_NAME_BYTES, Layout, default_dir


def test_a_directory_too_long_for_a_socket_is_refused_with_the_limit() -> None:
    with pytest.raises(PortFailed, match=r"has 102 bytes, at most \d+ leave room .* \(limit 107\)"):
        Layout(Path("/tmp/" + "x" * 97))


def test_the_longest_directory_that_is_taken_gives_sockets_that_fit() -> None:
    longest = 0
    for length in range(10, 110):
        try:
            layout = Layout(Path("/tmp/" + "x" * (length - 5)))
        except PortFailed:
            break
        longest = length
        sockets = [layout.api_socket("B"), layout.shelf_control, layout.shelf_cables("A") / "0", layout.socket]
        assert max(len(str(socket)) for socket in sockets) <= SOCKET_NAME_BYTES
    assert longest > 70


def test_the_length_is_counted_in_bytes() -> None:
    with pytest.raises(PortFailed, match="bytes"):
        Layout(Path("/tmp/" + "ü" * 45))


@pytest.mark.parametrize("hidden", ["/run/lab", "/etc/lab", "/dev/shm/lab"])
def test_a_directory_that_a_controller_could_not_see_is_refused(hidden: str) -> None:
    with pytest.raises(PortFailed, match="which each controller has its own of"):
        Layout(Path(hidden))


def test_the_default_directory_is_short_enough() -> None:
    assert Layout(default_dir()).dir == default_dir()


def test_the_boot_files_are_good_and_mirror_each_other(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.prepare()
    a, b = (config.load(layout.boot_file(node)) for node in LAN)
    assert (a.node, b.node) == ("A", "B")
    assert a.interlink is not None
    assert b.interlink is not None
    assert (a.interlink.address, a.interlink.peer) == (b.interlink.peer, b.interlink.address)
    assert a.voters == b.voters
    assert a.data_dir == str(tmp_path / "A")
    assert layout.dir.stat().st_mode & 0o077 == 0


def test_a_file_where_the_directory_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("")
    with pytest.raises(PortFailed, match=str(tmp_path / "lab")):
        Layout(tmp_path / "lab").prepare()


def test_what_is_prepared_is_forgotten_whole(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "lab")
    layout.prepare()
    layout.forget()
    assert list(layout.dir.iterdir()) == []
