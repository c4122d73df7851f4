from __future__ import annotations

import io
import sys

import pytest

from middlewared.config import FirstAddress, Interlink
from middlewared.kernel.errors import PortFailed, Refused
from middlewared.setup.answers import Answers
from middlewared.setup.dialog import Dialog
from middlewared.setup.nics import Nic
from middlewared.setup.questions import Given, gateway, gather

NICS = [
    Nic(name="eth0", mac="02:00:00:00:00:01", carrier=True, addresses=("192.0.2.1",)),
    Nic(name="eth1", mac="02:00:00:00:00:02", carrier=False, addresses=()),
    Nic(name="il0", mac="02:00:00:00:00:03", carrier=True, addresses=("169.254.10.1",)),
]
BARE = [nic for nic in NICS if nic.name != "eth0"]
FILE: dict[str, object] = {
    "node": "B",
    "interlink": {"interface": "il0", "address": "10.0.0.2", "peer": "10.0.0.1", "prefix": 30},
}


def assumed(given: Given, read: dict[str, object] | None = None, nics: list[Nic] = NICS) -> Answers:
    return gather(given, read or {}, nics, Dialog(assume=True))


def asked(monkeypatch: pytest.MonkeyPatch, *lines: str, given: Given | None = None) -> Answers:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return gather(given or Given(), {}, NICS, Dialog(assume=False))


def test_two_options_are_enough_where_the_system_gives_the_address() -> None:
    assert assumed(Given(node="a", interlink="il0")) == Answers(
        node="A", interlink=Interlink(interface="il0", address="169.254.10.1", peer="169.254.10.2")
    )
    assert assumed(Given(node="B", interlink="none")) == Answers(node="B", interlink=None)


def test_what_the_boot_file_says_need_not_be_said_again() -> None:
    expected = Interlink(interface="il0", address="10.0.0.2", peer="10.0.0.1", prefix=30)
    assert assumed(Given(), FILE) == Answers(node="B", interlink=expected)
    assert assumed(Given(peer="10.0.0.1"), FILE).interlink == expected


@pytest.mark.parametrize(
    ("given", "read", "option"),
    [
        (Given(), {}, "--node"),
        (Given(node="C"), {}, "--node"),
        (Given(node="A"), {}, "--interlink"),
        (Given(node="A", interlink="il7"), {}, "--interlink"),
        (Given(node="A", interlink="il0", interlink_address="x"), {}, "--interlink-address"),
        (Given(node="A", interlink="il0", interlink_address="10.0.0.1"), {}, "--peer"),
        (Given(node="A", interlink="il0", peer="10.0.0.9"), {}, "--peer"),
        (Given(node="A", interlink="il0", interlink_address="169.254.10.255"), {}, "--interlink-address"),
        (Given(node="A", interlink="il0", address="il0:10.0.0.1"), {}, "--address"),
        (Given(node="A", interlink="il0", address="eth1:10.0.0"), {}, "--address"),
        (Given(node="A", interlink="il0", address="eth1:169.254.10.9"), {}, "--address"),
    ],
)
def test_an_option_that_is_no_answer_is_refused_by_its_name(given: Given, read: dict[str, object], option: str) -> None:
    with pytest.raises(Refused) as refused:
        assumed(given, read)
    assert {problem[0] for problem in refused.value.problems} == {option}


def test_a_controller_that_has_no_address_yet_must_be_given_one() -> None:
    with pytest.raises(Refused, match=r"^--address: is needed"):
        assumed(Given(node="A", interlink="il0"), nics=BARE)
    first = assumed(Given(node="A", interlink="il0", address="eth1:192.0.2.9/26"), nics=BARE).first_address
    assert first == FirstAddress(interface="eth1", address="192.0.2.9", prefix=26)
    assert assumed(Given(node="A", interlink="il0", address="keep"), nics=BARE).first_address is None


@pytest.mark.parametrize("there", ["interface", "address"])
def test_a_first_address_of_which_the_file_has_a_part_only_is_needed_by_the_name_of_what_is_missing(there: str) -> None:
    part = {"interface": "eth1", "address": "192.0.2.9"}
    missing = next(name for name in part if name != there)
    file: dict[str, object] = {**FILE, "first_address": {there: part[there]}}
    with pytest.raises(Refused, match=rf"^--address: is needed: the boot file has no first_address\.{missing}"):
        assumed(Given(), file)
    assert assumed(Given(address="eth1:192.0.2.9/26"), file).first_address == FirstAddress(
        interface="eth1", address="192.0.2.9", prefix=26
    )


def test_nobody_is_proposed_to_drop_a_first_address_that_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n\n\n\neth1:192.0.2.9\n"))
    file: dict[str, object] = {**FILE, "first_address": {"address": "192.0.2.9"}}
    assert gather(Given(), file, NICS, Dialog(assume=False)).first_address == FirstAddress(
        interface="eth1", address="192.0.2.9"
    )


def test_a_gateway_is_an_address_or_none() -> None:
    silent = Dialog(assume=True)
    assert gateway("none", joins=False, asks=False, dialog=silent) is None
    assert gateway("192.0.2.254", joins=False, asks=False, dialog=silent) == "192.0.2.254"
    assert gateway(None, joins=False, asks=False, dialog=silent) is None
    with pytest.raises(Refused, match=r"^--gateway: 'here' is not an IP address"):
        gateway("here", joins=False, asks=False, dialog=silent)


def test_a_person_is_asked_for_the_gateway_until_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("here\n192.0.2.254\n\n"))
    person = Dialog(assume=False)
    assert gateway(None, joins=False, asks=True, dialog=person) == "192.0.2.254"
    assert gateway(None, joins=False, asks=True, dialog=person) is None


def test_a_controller_that_joins_brings_no_gateway_of_its_own() -> None:
    silent = Dialog(assume=True)
    with pytest.raises(Refused, match=r"^--gateway: a controller that joins has the other one's"):
        gateway("192.0.2.254", joins=True, asks=False, dialog=silent)
    assert gateway("none", joins=True, asks=False, dialog=silent) is None
    assert gateway(None, joins=True, asks=False, dialog=silent) is None


def test_a_person_gets_proposals_and_is_asked_again_until_it_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = asked(monkeypatch, "x", "b", "eth9", "il0", "", "192.0.2.5", "", "")
    assert answers == Answers(
        node="B", interlink=Interlink(interface="il0", address="169.254.10.2", peer="169.254.10.1")
    )
    said = capsys.readouterr().err
    assert "A or B\n" in said
    assert "there is no interface 'eth9'" in said
    assert "must lie in 169.254.10.0/24" in said
    assert "it has 192.0.2.1 on eth0; keep: leave that to the system" in said
    assert "02:00:00:00:00:02  no" in said


def test_input_that_ends_names_the_way_without_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PortFailed, match="see --help"):
        asked(monkeypatch, "A")
