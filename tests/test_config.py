from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from middlewared.config import BootFile, Interlink, Timing, Voters, load
from middlewared.kernel.errors import BadBootFile

PAIR = """
node = "B"
data_dir = "/d"
run_dir = "/r"
listen = "[::]:8080"

[interlink]
interface = "il0"
address = "169.254.10.2"
peer = "169.254.10.1"

[voters]
backend = "shelf"
paths = ["/s/0", "/s/1", "/s/2"]

[timing]
settle_s = 2
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "boot.toml"


def refusal(path: Path) -> str:
    """The sentence, without the file's name, which every one begins with."""
    with pytest.raises(BadBootFile) as error:
        load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_a_whole_file_is_read_and_the_rest_has_defaults(path: Path) -> None:
    path.write_text(PAIR)
    boot = load(path)
    assert boot == BootFile(
        node="B",
        data_dir="/d",
        run_dir="/r",
        listen="[::]:8080",
        interlink=Interlink(interface="il0", address="169.254.10.2", peer="169.254.10.1", port=6000),
        voters=Voters(backend="shelf", paths=("/s/0", "/s/1", "/s/2")),
        timing=Timing(settle_s=2.0),
    )
    assert boot.peer == "A"
    assert boot.listen_address == ("::", 8080)
    assert boot.fenced_socket == "/r/fenced.sock"
    assert boot.api_socket == "/r/middlewared.sock"


def test_one_line_is_enough_for_a_single_controller(path: Path) -> None:
    path.write_text('node = "A"')
    boot = load(path)
    assert (boot.interlink, boot.voters, boot.listen_address) == (None, None, ("0.0.0.0", 80))


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    assert refusal(path) == "No such file or directory"


def test_a_directory_is_no_boot_file(path: Path) -> None:
    path.mkdir()
    assert refusal(path) == "Is a directory"


@pytest.mark.parametrize("content", [b'node = "A', b"\xff\xfe", b"node: A"])
def test_what_is_no_toml_is_refused_with_the_reason(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refusal(path)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('node = "B"', "", "node"),
        ('node = "B"', 'node = "C"', "$.node"),
        ('listen = "[::]:8080"', "listen = 80", "$.listen"),
        ('data_dir = "/d"', 'dada_dir = "/d"', "dada_dir"),
        ('interface = "il0"', "", "interface"),
        ('backend = "shelf"', 'backend = "scsi"', "$.voters.backend"),
        ("settle_s = 2", 'settle_s = "2"', "$.timing.settle_s"),
        ("settle_s = 2", "settel_s = 2", "settel_s"),
    ],
)
def test_a_field_that_is_missing_unknown_or_of_the_wrong_type_is_named(
    path: Path, old: str, new: str, names: str
) -> None:
    assert old in PAIR
    path.write_text(PAIR.replace(old, new))
    assert names in refusal(path)


@pytest.mark.parametrize("listen", ["", "80", "0.0.0.0", "0.0.0.0:", "0.0.0.0:0", "0.0.0.0:65536", "host:80", "[::]"])
def test_an_address_that_cannot_be_listened_on_is_refused(path: Path, listen: str) -> None:
    path.write_text(f'node = "A"\nlisten = "{listen}"')
    assert refusal(path) == f"listen: {listen!r} is not ADDRESS:PORT"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"169.254.10.2"', '"il0"', "interlink.address: 'il0' is not an IP address"),
        ('"169.254.10.1"', '""', "interlink.peer: '' is not an IP address"),
        ('"169.254.10.1"', '"169.254.10.2"', "interlink.peer: is this controller's own address"),
        ('interface = "il0"', 'interface = "il0"\nport = 0', "interlink.port: 0 is not a port"),
        ('"/s/2"', '"/s/2", "/s/3"', "voters.paths: 3 or 5 shared disks are needed, not 4"),
        ('"/s/2"', '"/s/0"', "voters.paths: a disk that is named twice would vote twice"),
    ],
)
def test_what_would_make_no_pair_is_refused_by_its_field(path: Path, old: str, new: str, sentence: str) -> None:
    assert old in PAIR
    path.write_text(PAIR.replace(old, new))
    assert refusal(path) == sentence


def test_shared_disks_without_an_interlink_are_refused(path: Path) -> None:
    path.write_text('node = "A"\n[voters]\nbackend = "shelf"\npaths = ["/0", "/1", "/2"]')
    assert refusal(path) == "voters: shared disks without an [interlink]"


def test_the_floor_of_free_space_is_64_mib_and_cannot_be_taken_away(path: Path) -> None:
    path.write_text('node = "A"')
    assert load(path).storage.free_floor_mib == 64
    path.write_text('node = "A"\n[storage]\nfree_floor_mib = 0')
    assert refusal(path).startswith("storage.free_floor_mib: must be at least 1")


def test_a_run_dir_in_which_a_sockets_name_is_too_long_is_refused(path: Path) -> None:
    fits = "/" + "x" * (107 - len("/middlewared.sock") - 1)
    path.write_text(f'node = "A"\nrun_dir = "{fits}"')
    assert len(load(path).api_socket) == 107
    path.write_text(f'node = "A"\nrun_dir = "{fits[:-1]}é"', encoding="utf-8")
    assert refusal(path).startswith("run_dir: ")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"renew_s": 0.0}, "timing.stall_s"),
        ({"renew_s": 0.75}, "timing.stall_s"),
        ({"stall_s": 0.76}, "timing.lease_s"),
        ({"held_s": 1.24}, "timing.held_s"),
        ({"heartbeat_dead_ms": 149}, "timing.heartbeat_dead_ms"),
        ({"heartbeat_ms": 0}, "timing.heartbeat_ms"),
        ({"advert_ms": 0}, "timing.advert_ms"),
        ({"disk_ms": 0}, "timing.disk_ms"),
        ({"disk_dead_ms": 249}, "timing.disk_dead_ms"),
        ({"advert_dead_count": 2}, "timing.advert_dead_count"),
        ({"settle_s": 0.55}, "timing.settle_s"),
        ({"settle_s": float("nan")}, "timing.settle_s"),
    ],
)
def test_intervals_that_would_let_two_controllers_own_are_refused(change: dict[str, float], field: str) -> None:
    boot = BootFile(node="A", timing=msgspec.structs.replace(Timing(), **change))
    with pytest.raises(BadBootFile, match=rf"^{field}: "):
        boot.validate()


def test_the_defaults_hold_every_rule() -> None:
    BootFile(node="A").validate()
