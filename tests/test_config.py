from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from middlewared.config import BootFile, Interlink, Timing, Voters, flat, load, section_of
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
    ("old", "new", "sentence"),
    [
        ('node = "B"', "", "node: is required"),
        ('node = "B"', 'node = "C"', 'node = "C": must be one of A, B'),
        ('listen = "[::]:8080"', "listen = 80", "listen = 80: must be a string, not a whole number"),
        ('data_dir = "/d"', 'dada_dir = "/d"', "dada_dir: there is no such field; did you mean data_dir?"),
        ('interface = "il0"', "", "interlink.interface: is required"),
        ('backend = "shelf"', "backend = 3", "voters.backend = 3: "),
        ("settle_s = 2", 'settle_s = "2"', 'timing.settle_s = "2": must be a number, not a string'),
        ("settle_s = 2", "settel_s = 2", "timing.settel_s: there is no such field; did you mean settle_s?"),
        ("[timing]\nsettle_s = 2", "[timeing]", "timeing: there is no such field; did you mean timing?"),
        ("[timing]\nsettle_s = 2", "[colours]", "colours: there is no such field"),
    ],
)
def test_a_field_that_is_missing_unknown_or_of_the_wrong_type_is_named(
    path: Path, old: str, new: str, sentence: str
) -> None:
    assert old in PAIR
    path.write_text(PAIR.replace(old, new))
    assert refusal(path).startswith(sentence)


def test_every_fault_is_told_at_once_each_on_a_line_with_the_file(path: Path) -> None:
    path.write_text(PAIR.replace('node = "B"', "nodes = 1").replace("settle_s = 2", 'settle_s = "2"\nheld_s = 1.0'))
    with pytest.raises(BadBootFile) as error:
        load(path)
    assert str(error.value).splitlines() == [
        f"{path}: nodes: there is no such field; did you mean node?",
        f"{path}: node: is required",
        f'{path}: timing.settle_s = "2": must be a number, not a string',
        f"{path}: timing.held_s = 1.0: must be at least lease_s + renew_s (1.25); "
        "a frozen owner's kernel would still answer for the address",
    ]


def test_a_section_that_is_none_is_one_fault(path: Path) -> None:
    path.write_text('node = "A"\ninterlink = "il0"')
    assert refusal(path) == 'interlink = "il0": must be an object or null, not a string'


def test_the_fields_are_told_flat_with_their_defaults() -> None:
    fields = flat({"node": "B", "interlink": {"interface": "il0"}})
    assert fields["node"] == "B"
    assert fields["run_dir"] == "/run/middleware"
    assert fields["interlink"] is True
    assert fields["interlink.interface"] == "il0"
    assert fields["interlink.port"] == 6000
    assert "interlink.address" not in fields
    assert fields["timing.lease_s"] == 1.0
    assert "voters" not in fields
    assert "voters.backend" not in fields


def test_what_is_made_in_a_program_is_held_to_the_same_rules() -> None:
    BootFile(node="A").validate()
    with pytest.raises(BadBootFile, match=r"^timing.held_s = 1.0: "):
        BootFile(node="A", timing=Timing(held_s=1.0)).validate()


def test_the_address_to_listen_on_is_split() -> None:
    assert BootFile(node="A", listen="192.0.2.1:80").listen_address == ("192.0.2.1", 80)
    with pytest.raises(BadBootFile):
        BootFile(node="A", listen="80").listen_address  # noqa: B018


def test_the_page_about_the_boot_file_names_every_field() -> None:
    page = (Path(__file__).parent.parent / "docs/boot-file.md").read_text()
    sections = {
        field.name: {part.name: "" for part in msgspec.structs.fields(section)}
        for field in msgspec.structs.fields(BootFile)
        if (section := section_of(field.type)) is not None
    }
    fields = [field.removeprefix("timing.") for field in flat({"node": "A", **sections})]
    assert [field for field in fields if f"`{field}`" not in page and f"`[{field}]`" not in page] == []
