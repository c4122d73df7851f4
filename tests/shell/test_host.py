"""The files of /etc, in a directory of the test. One test needs root: a host name of its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from middlewared.kernel.errors import PortFailed
from middlewared.shell.host import BANNER, EtcHost
from tests.shell.namespace import inside


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def host(tmp_path: Path) -> EtcHost:
    return EtcHost(tmp_path)


async def test_the_name_servers_are_written_after_the_domains_to_search(host: EtcHost, tmp_path: Path) -> None:
    await host.write_resolv_conf(["10.0.0.53", "fd00::53"], ["lab.example", "example"])
    assert (tmp_path / "resolv.conf").read_text() == (
        BANNER + "search lab.example example\nnameserver 10.0.0.53\nnameserver fd00::53\n"
    )
    assert list(await host.nameservers()) == ["10.0.0.53", "fd00::53"]


async def test_without_servers_and_domains_the_file_is_empty_but_for_its_first_line(
    host: EtcHost, tmp_path: Path
) -> None:
    await host.write_resolv_conf([], [])
    assert (tmp_path / "resolv.conf").read_text() == BANNER


async def test_the_hosts_file_names_this_controller_and_every_line_that_is_configured(
    host: EtcHost, tmp_path: Path
) -> None:
    await host.write_hosts("left", "lab.example", ["10.0.0.3 printer"])
    lines = (tmp_path / "hosts").read_text().removeprefix(BANNER).splitlines()
    assert lines == [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "127.0.1.1 left.lab.example left",
        "10.0.0.3 printer",
    ]
    await host.write_hosts("left", "", [])
    assert "127.0.1.1 left\n" in (tmp_path / "hosts").read_text()


async def test_a_file_is_replaced_whole_readable_for_all_and_leaves_nothing_beside_it(
    host: EtcHost, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("not ours")
    (tmp_path / "resolv.conf").symlink_to(target)
    await host.write_resolv_conf(["10.0.0.53"], [])
    assert not (tmp_path / "resolv.conf").is_symlink()
    assert (tmp_path / "resolv.conf").stat().st_mode & 0o777 == 0o644
    assert target.read_text() == "not ours"
    assert names(tmp_path) == ["elsewhere", "resolv.conf"]


async def test_a_file_that_is_equal_already_is_left_alone(host: EtcHost, tmp_path: Path) -> None:
    await host.write_resolv_conf(["10.0.0.53"], [])
    before = (tmp_path / "resolv.conf").stat().st_ino
    await host.write_resolv_conf(["10.0.0.53"], [])
    assert (tmp_path / "resolv.conf").stat().st_ino == before
    await host.write_resolv_conf(["10.0.0.54"], [])
    assert (tmp_path / "resolv.conf").stat().st_ino != before


async def test_a_file_that_is_no_text_is_replaced_and_can_be_read(host: EtcHost, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_bytes(b"# gr\xfc\xdfe\nnameserver\t10.0.0.53\nnameserver\n")
    assert list(await host.nameservers()) == ["10.0.0.53"]
    await host.write_resolv_conf(["10.0.0.54"], [])
    assert list(await host.nameservers()) == ["10.0.0.54"]


async def test_without_the_file_there_are_no_name_servers(host: EtcHost) -> None:
    assert list(await host.nameservers()) == []


async def test_a_directory_that_is_not_there_is_named_with_the_purpose(tmp_path: Path) -> None:
    with pytest.raises(PortFailed, match=r"^write the name servers: .*/no/resolv\.conf: No such file or directory$"):
        await EtcHost(tmp_path / "no").write_resolv_conf([], [])


async def test_a_host_name_that_is_right_already_only_needs_its_file(host: EtcHost, tmp_path: Path) -> None:
    await host.set_hostname(socket.gethostname())
    assert (tmp_path / "hostname").read_text() == socket.gethostname() + "\n"


def test_the_host_name_is_set_in_the_kernel_and_in_its_file(tmp_path: Path) -> None:
    before = os.uname().nodename

    async def work() -> None:
        await EtcHost(tmp_path).set_hostname("left")
        assert os.uname().nodename == "left"

    inside(work)
    assert (tmp_path / "hostname").read_text() == "left\n"
    assert os.uname().nodename == before
