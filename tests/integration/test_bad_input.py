"""Bad input, from the frame to the disk: an error that names the field or file, and a daemon that stays up or says in
one line why it does not start. Needs root.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from middlewared.lab.driver import Pair
from tests.integration.conftest import ask_raw, records, say_raw

pytestmark = pytest.mark.root

UPDATE = "network.configuration.update"
VIP_UPDATE = "network.vip.update"


@pytest.fixture
def unmoved(pair: Pair) -> Iterator[Pair]:
    """The pair, of which the test may change neither the log nor the process."""
    pid, log = pair.pid("A", "middlewared"), records(pair, "A")
    yield pair
    assert pair.pid("A", "middlewared") == pid
    assert records(pair, "A") == log


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", -32700),
        ("\x00", -32700),
        ("[" * 1000, -32600),
        ("7", -32600),
        ("[]", -32600),
        ('{"jsonrpc": "2.0", "id": "1"}', -32600),
        ('{"jsonrpc": "1.0", "id": "1", "method": "core.ping"}', -32600),
    ],
)
def test_a_malformed_text_is_refused_and_harms_nobody(unmoved: Pair, text: str, code: int) -> None:
    answer = say_raw(unmoved, "A", text)
    assert answer["error"]["code"] == code
    assert ask_raw(unmoved, "A", "core.ping", [])["result"] == "pong"


def test_an_unknown_method_is_named_as_such(unmoved: Pair) -> None:
    error = ask_raw(unmoved, "A", "network.configuration.upgrade", [])["error"]
    assert (error["code"], error["message"]) == (-32601, "Method does not exist")


@pytest.mark.parametrize(
    ("method", "fields", "named"),
    [
        (UPDATE, {"domain": 5}, ["network_configuration_update.domain"]),
        (UPDATE, {"dommain": "x"}, ["network_configuration_update.dommain"]),
        (UPDATE, {"hostname": "two words"}, ["network_configuration_update.hostname"]),
        (UPDATE, {"hosts": ["no address"]}, ["network_configuration_update.hosts.0"]),
        (
            UPDATE,
            {"hostname": "two words", "nameserver1": "1.2.3.256"},
            ["network_configuration_update.hostname", "network_configuration_update.nameserver1"],
        ),
        (VIP_UPDATE, {"vhid": 0}, ["network_vip_update.vhid"]),
        (VIP_UPDATE, {"vhid": 300}, ["network_vip_update.vhid"]),
        (VIP_UPDATE, {"vhid": "one"}, ["network_vip_update.vhid"]),
        (VIP_UPDATE, {"address": "192.0.2.300"}, ["network_vip_update.address"]),
        ("failover.update", {"timeout": 121}, ["failover_update.timeout"]),
    ],
)
def test_wrong_input_is_refused_by_the_names_of_all_its_fields(
    unmoved: Pair, method: str, fields: dict[str, Any], named: list[str]
) -> None:
    error = ask_raw(unmoved, "A", method, [fields])["error"]
    assert error["code"] == -32602
    assert [problem[0] for problem in error["data"]["extra"]] == named
    assert all(reason and errno == 22 for _, reason, errno in error["data"]["extra"])


# Starting


class Spare:
    """A second controller's files, for a daemon that is started by hand within B's namespaces."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.dir = pair.layout.machine("B") / "spare"
        self.data = self.dir / "data"
        for directory in (self.data, self.dir / "run"):
            directory.mkdir(parents=True)
        self.boot = {
            "node": "B",
            "data_dir": str(self.data),
            "run_dir": str(self.dir / "run"),
            "listen": "127.0.0.1:81",
        }

    def start(self) -> subprocess.CompletedProcess[str]:
        """Run the daemon; it must end by itself."""
        file = self.dir / "boot.toml"
        file.write_text("".join(f'{name} = "{value}"\n' for name, value in self.boot.items()))
        return self.pair.execute("B", "timeout", "10", "middlewared", "serve", "--config", str(file))

    def refuses(self, *words: str) -> None:
        """It ends with status 1 and one line that has these words."""
        done = self.start()
        assert done.returncode == 1, done.stderr
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert [word for word in words if word not in lines[0]] == [], lines[0]


@pytest.fixture
def spare(pair: Pair) -> Iterator[Spare]:
    made = Spare(pair)
    yield made
    subprocess.run(["rm", "-rf", str(made.dir)], check=True, timeout=10)


def test_a_daemon_whose_port_is_in_use_does_not_start(spare: Spare) -> None:
    spare.boot["listen"] = "0.0.0.0:80"
    spare.refuses("0.0.0.0:80", "in use")


def test_a_daemon_whose_data_directory_cannot_be_written_does_not_start(spare: Spare) -> None:
    spare.boot["data_dir"] = "/sys/kernel"  # where not even root can make a file
    spare.refuses("/sys/kernel", "ermi")


def test_a_daemon_whose_data_directory_is_another_s_does_not_start(spare: Spare) -> None:
    directory = spare.pair.layout.machine("B")
    spare.boot["data_dir"] = str(directory)
    spare.refuses(str(directory), "has it open")


def test_a_daemon_with_a_flipped_byte_in_its_log_does_not_start_and_verify_finds_it(spare: Spare) -> None:
    log = spare.data / "log.db"
    copy_database(spare.pair.layout.machine("B") / "log.db", log)
    payload = records(spare.pair, "B")[-1].payload
    data = bytearray(log.read_bytes())
    data[data.rindex(payload) + len(payload) // 2] ^= 0x01
    log.write_bytes(data)
    spare.refuses("log.db", f"seq {records(spare.pair, 'B')[-1].seq}")
    verified = spare.pair.execute("B", "middlewared", "log", "verify", str(log))
    assert (verified.returncode, "log.db" in verified.stderr) == (1, True)


def test_a_boot_file_with_an_unknown_field_is_refused_by_its_name(spare: Spare) -> None:
    spare.boot["liste"] = "0.0.0.0:80"
    spare.refuses("boot.toml", "liste")


def test_a_lab_directory_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)
    argv = [sys.executable, "-m", "middlewared.lab.command", "up", "--detach", "--dir", str(directory)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert str(directory) in done.stderr
    assert "107" in done.stderr
    assert not directory.exists()


def copy_database(source: Path, target: Path) -> None:
    """As it is at this moment, whoever writes it."""
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reading,
        contextlib.closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)
