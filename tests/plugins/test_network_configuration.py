from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from middlewared_plugins.network.configuration import NOUN, Configuration, Update, Updated
from msgspec import UNSET

from middlewared.kernel.facts import PerNode
from tests.plugins.given import given, in_state

OLD_ORDER = Updated(domain="old.example", nameserver1="10.0.0.1", domains=("a.example", "b.example"))

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?", fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=3).map(".".join)
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)
servers = st.just("") | v4 | v6
lines = st.tuples(v4 | v6, labels).map(" ".join)


def few(texts: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(texts, max_size=3).map(tuple)


FIELDS: dict[str, st.SearchStrategy[object]] = {
    "hostname_virtual": st.just("") | labels,
    "domain": st.just("") | domains,
    "domains": few(domains),
    "nameserver1": servers,
    "nameserver2": servers,
    "nameserver3": servers,
    "ipv4gateway": st.just("") | v4,
    "ipv6gateway": st.just("") | v6,
    "hosts": few(lines),
}
states = st.builds(Configuration, hostnames=st.builds(PerNode, A=labels, B=labels), **FIELDS)
updates = st.builds(
    Update, **{name: st.just(UNSET) | field for name, field in FIELDS.items()}, hostname=labels, hostname_b=labels
)


def test_what_is_given_changes_and_nothing_else_is_in_the_event() -> None:
    given(NOUN).when(Update(domain="lab.example")).then(Updated(domain="lab.example"))


def test_a_value_that_is_there_already_makes_no_event() -> None:
    given(NOUN, OLD_ORDER).when(Update(domain="old.example", nameserver1="10.0.0.1")).then()


def test_an_empty_command_makes_no_event() -> None:
    given(NOUN, OLD_ORDER).when(Update()).then()


def test_a_list_and_a_text_can_be_emptied() -> None:
    assert given(NOUN, OLD_ORDER).when(Update(domains=(), nameserver1="")).after() == Configuration(
        domain="old.example"
    )


def test_each_controllers_host_name_is_its_own_and_both_are_in_the_event() -> None:
    given(NOUN).when(Update(hostname_b="right")).then(Updated(hostnames=PerNode(A="controller-a", B="right")))
    given(NOUN).when(Update(hostname="left")).then(Updated(hostnames=PerNode(A="left", B="controller-b")))


def test_every_wrong_field_is_named_at_once() -> None:
    refused = (
        given(NOUN).when(Update(hostname="a b", domain="x..y", nameserver2="10.0.0", domains=("ok", "-"))).refused()
    )
    assert refused == {
        "hostname": "'a b' is not a host name: 1-63 letters, digits and hyphens, no hyphen at either end",
        "domain": "'x..y' is not a domain name",
        "nameserver2": "'10.0.0' is not an IP address",
        "domains.1": "'-' is not a domain name",
    }


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a.b", "a" * 64, "ä", "a\n"])
def test_a_host_name_that_no_host_may_have_is_refused(name: str) -> None:
    assert list(given(NOUN).when(Update(hostname=name, hostname_b=name)).refused()) == ["hostname", "hostname_b"]


@pytest.mark.parametrize("name", ["a", "A1", "a" * 63, "0-0"])
def test_a_host_name_of_letters_digits_and_inner_hyphens_is_taken(name: str) -> None:
    after = given(NOUN).when(Update(hostname=name)).after()
    assert after.hostnames.of("A") == name


def test_the_common_host_name_may_be_empty_and_the_controllers_own_may_not() -> None:
    assert (
        given(NOUN, Updated(hostname_virtual="both")).when(Update(hostname_virtual="")).after().hostname_virtual == ""
    )
    assert list(given(NOUN).when(Update(hostname="", hostname_virtual="-")).refused()) == [
        "hostname",
        "hostname_virtual",
    ]


def test_a_gateway_is_of_its_own_family() -> None:
    assert given(NOUN).when(Update(ipv4gateway="fd00::1", ipv6gateway="10.0.0.1")).refused() == {
        "ipv4gateway": "'fd00::1' is not an IPv4 address",
        "ipv6gateway": "'10.0.0.1' is not an IPv6 address",
    }


@pytest.mark.parametrize("text", ["fe80::1%a\nnameserver 10.6.6.6", "fe80::1%a b", "10.0.0.1 ", "fe80::1%\x00"])
def test_an_address_never_carries_a_second_line_into_a_file(text: str) -> None:
    assert list(given(NOUN).when(Update(nameserver1=text)).refused()) == ["nameserver1"]


def test_a_name_server_of_one_link_is_taken() -> None:
    assert given(NOUN).when(Update(nameserver1="fe80::1%eth0")).after().nameservers == ("fe80::1%eth0",)


@pytest.mark.parametrize(
    "line", ["", "x", "10.0.0.1", "example 10.0.0.1", "10.0.0.1 a\n10.0.0.2 b", "10.0.0.1 # none", "10.0.0.1 a\x00"]
)
def test_a_line_of_hosts_that_is_not_one_address_and_names_is_refused(line: str) -> None:
    assert list(given(NOUN).when(Update(hosts=("10.0.0.9 right", line))).refused()) == ["hosts.1"]


@pytest.mark.parametrize("line", ["10.0.0.1 a", "fd00::1\ta b.example", "10.0.0.1 a # the printer"])
def test_a_line_of_hosts_is_kept_as_it_was_written(line: str) -> None:
    assert given(NOUN).when(Update(hosts=(line,))).after().hosts == (line,)


def test_name_servers_and_search_domains_leave_out_what_is_not_set_and_what_comes_twice() -> None:
    state = Configuration(domain="a", domains=("b", "a"), nameserver1="", nameserver2="10.0.0.2", nameserver3="::2")
    assert state.nameservers == ("10.0.0.2", "::2")
    assert state.search == ("a", "b")


@hypothesis.settings(max_examples=30)
@hypothesis.given(states, updates)
def test_after_a_command_every_field_is_what_was_asked_or_what_it_was(before: Configuration, update: Update) -> None:
    after = in_state(NOUN, before).when(update).after()
    asked = {name: value for name, value in msgspec.structs.asdict(update).items() if value is not UNSET}
    hostnames = PerNode(A=asked.pop("hostname"), B=asked.pop("hostname_b"))
    assert after == msgspec.structs.replace(before, hostnames=hostnames, **asked)


@hypothesis.settings(max_examples=30)
@hypothesis.given(states, updates)
def test_a_command_that_was_carried_out_has_nothing_left_to_do(before: Configuration, update: Update) -> None:
    after = in_state(NOUN, before).when(update).after()
    in_state(NOUN, after).when(update).then()


@hypothesis.settings(max_examples=30)
@hypothesis.given(states)
def test_what_is_projected_can_be_restored(state: Configuration) -> None:
    (row,) = NOUN.project(state)
    assert set(row) == {column.name for column in NOUN.table.columns}
    assert NOUN.restore([row]) == state


def test_no_row_is_a_new_system() -> None:
    assert NOUN.restore([]) == NOUN.initial == Configuration()


@hypothesis.given(st.text())
def test_no_text_gets_into_a_field_of_addresses_but_an_address(text: str) -> None:
    command = Update(ipv4gateway=text, ipv6gateway=text)
    refused = given(NOUN).when(command).refused() if text else {}
    for name, address in (("ipv4gateway", IPv4Address), ("ipv6gateway", IPv6Address)):
        if text and name not in refused:
            address(text)
