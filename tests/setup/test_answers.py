from __future__ import annotations

import tomllib

import pytest

from middlewared.config import FirstAddress, Interlink, check, flat
from middlewared.kernel.errors import Refused
from middlewared.setup.answers import Answers, as_text, boot_file, with_prefix

IL = Interlink(interface="il0", address="169.254.10.1", peer="169.254.10.2")


def test_the_answers_alone_are_a_good_boot_file() -> None:
    first = FirstAddress(interface="eth0", address="192.0.2.1")
    made = boot_file({}, Answers(node="A", interlink=IL, first_address=first))
    assert check(made) == []
    assert flat(made)["interlink.peer"] == "169.254.10.2"
    assert tomllib.loads(as_text(made)) == made


def test_what_is_not_asked_for_stays() -> None:
    before = {
        "listen": "0.0.0.0:8080",
        "node": "B",
        "interlink": {"interface": "x", "address": "10.0.0.1", "peer": "10.0.0.2", "port": 7000},
        "voters": {"backend": "shelf", "paths": ["/0", "/1", "/2"]},
        "timing": {"settle_s": 5.0},
    }
    made = boot_file(before, Answers(node="A", interlink=IL))
    assert (made["node"], made["listen"]) == ("A", "0.0.0.0:8080")
    assert flat(made)["interlink.port"] == 7000
    assert flat(made)["interlink.interface"] == "il0"
    assert (made["voters"], made["timing"]) == (before["voters"], before["timing"])
    assert tomllib.loads(as_text(made)) == made


def test_a_controller_that_shall_be_alone_loses_its_interlink() -> None:
    assert "interlink" not in boot_file({"interlink": {"interface": "x"}}, Answers(node="A", interlink=None))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("10.0.0.1", ("10.0.0.1", 24)), ("10.0.0.1/30", ("10.0.0.1", 30)), (" fd00::1/64 ", ("fd00::1", 64))],
)
def test_an_address_may_have_its_prefix(text: str, parsed: tuple[str, int]) -> None:
    assert with_prefix(text, "--peer") == parsed


@pytest.mark.parametrize("text", ["", "il0", "10.0.0.1/33", "10.0.0.1/", "10.0.0.0.1", "10.0.0.1/255.255.255.0/3"])
def test_what_is_no_address_is_refused_under_the_options_name(text: str) -> None:
    with pytest.raises(Refused) as refused:
        with_prefix(text, "--peer")
    assert refused.value.problems[0][0] == "--peer"
