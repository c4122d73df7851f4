from __future__ import annotations

import pytest

from middlewared.boot_rules import Fields, Unknown, faults_in, parse_listen, shown
from middlewared.config import flat

PAIR: dict[str, object] = {
    "node": "A",
    "interlink": {"interface": "il0", "address": "169.254.10.1", "peer": "169.254.10.2"},
    "voters": {"backend": "shelf", "paths": ["/s/0", "/s/1", "/s/2"]},
}


def sentences(**changes: object) -> list[str]:
    """What is said of a pair's file with these fields changed: `interlink__port=1`, or a section left out by None."""
    values = flat(PAIR)
    for name, value in changes.items():
        field = name.replace("__", ".")
        values = {known: kept for known, kept in values.items() if value is not None or not known.startswith(field)}
        if value is not None:
            values[field] = value
    return [str(fault) for fault in faults_in(values)]


def test_the_defaults_hold_every_rule() -> None:
    assert sentences() == []
    assert faults_in(flat({"node": "A"})) == []


@pytest.mark.parametrize(
    ("changes", "begin"),
    [
        ({"timing__renew_s": 0.0}, "timing.renew_s = 0.0: must be more than 0; "),
        ({"timing__renew_s": 0.75}, "timing.stall_s = 0.75: must be more than renew_s (0.75); "),
        ({"timing__stall_s": 0.76}, "timing.lease_s = 1.0: must be at least stall_s + renew_s (1.01); "),
        ({"timing__disk_dead_ms": 1000}, "timing.lease_s = 1.0: must be more than disk_dead_ms / 1000 (1); "),
        ({"timing__held_s": 1.24}, "timing.held_s = 1.24: must be at least lease_s + renew_s (1.25); "),
        ({"timing__heartbeat_ms": 9}, "timing.heartbeat_ms = 9: must be at least 10; "),
        (
            {"timing__heartbeat_dead_ms": 149},
            "timing.heartbeat_dead_ms = 149: must be at least 3 x heartbeat_ms (150); ",
        ),
        ({"timing__advert_ms": 3}, "timing.advert_ms = 3: must be at least 4; "),
        ({"timing__advert_dead_count": 2}, "timing.advert_dead_count = 2: must be at least 3; "),
        ({"timing__disk_ms": 19}, "timing.disk_ms = 19: must be at least 20; "),
        ({"timing__disk_dead_ms": 249}, "timing.disk_dead_ms = 249: must be at least 2.5 x disk_ms (250); "),
        ({"timing__settle_s": 1.24}, "timing.settle_s = 1.24: must be at least held_s (1.25); "),
        ({"timing__settle_s": 1e9}, "timing.settle_s = 1000000000.0: must be at most 3600; "),
        ({"timing__settle_s": float("nan")}, "timing.settle_s = nan: "),
    ],
)
def test_intervals_that_would_let_two_controllers_own_are_refused(changes: dict[str, object], begin: str) -> None:
    assert sentences(**changes)[0].startswith(begin)


def test_a_controller_that_boots_could_notice_the_other_before_it_claims() -> None:
    said = sentences(timing__settle_s=3.0, timing__advert_ms=1000)
    assert said == [
        "timing.settle_s = 3.0: must be more than advert_dead_count x advert_ms / 1000 + disk_dead_ms / 1000 (3.25); "
        "a controller that boots would claim before it could have noticed the other"
    ]


def test_a_lease_that_the_kernel_would_round_is_refused() -> None:
    assert sentences(timing__lease_s=1.5, timing__held_s=1.75) == [
        "timing.lease_s = 1.5: must be a whole number of seconds; the kernel counts the life of an address in seconds, "
        "and would keep it for longer"
    ]
    assert sentences(timing__lease_s=2.0, timing__held_s=2.25) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data_dir": "data"}, 'data_dir = "data": must be an absolute path; '),
        ({"run_dir": "./run"}, 'run_dir = "./run": must be an absolute path; '),
        (
            {"data_dir": "/run/middleware/"},
            'data_dir = "/run/middleware/": must not lie in run_dir (/run/middleware); ',
        ),
        (
            {"data_dir": "/run/middleware/d"},
            'data_dir = "/run/middleware/d": must not lie in run_dir (/run/middleware); ',
        ),
        ({"storage__free_floor_mib": 0}, "storage.free_floor_mib = 0: must be at least 1; "),
    ],
)
def test_places_in_which_nothing_would_last_are_refused(changes: dict[str, object], sentence: str) -> None:
    (said,) = sentences(**changes)
    assert said.startswith(sentence)


def test_a_directory_whose_name_only_begins_like_the_other_is_fine() -> None:
    assert sentences(data_dir="/run/middleware-data") == []


def test_a_run_dir_in_which_a_sockets_name_is_too_long_is_refused() -> None:
    fits = "/" + "x" * (107 - len("/middlewared.sock") - 1)
    assert sentences(run_dir=fits) == []
    (said,) = sentences(run_dir=fits[:-1] + "é")
    assert "must be shorter by 1 bytes; " in said


@pytest.mark.parametrize("listen", ["", "80", "0.0.0.0", "0.0.0.0:", "0.0.0.0:0", "0.0.0.0:65536", "host:80", "[::]"])
def test_an_address_that_cannot_be_listened_on_is_refused(listen: str) -> None:
    assert parse_listen(listen) is None
    assert sentences(listen=listen) == [f'listen = "{listen}": is not ADDRESS:PORT']


def test_an_address_to_listen_on_is_split_at_its_last_colon() -> None:
    assert parse_listen("[::]:80") == ("::", 80)
    assert parse_listen("192.0.2.1:8080") == ("192.0.2.1", 8080)


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"address": "il0"}, 'interlink.address = "il0": is not an IP address'),
        ({"peer": ""}, 'interlink.peer = "": is not an IP address'),
        ({"peer": "169.254.10.1"}, 'interlink.peer = "169.254.10.1": is this controller\'s own address'),
        ({"peer": "fd00::2"}, 'interlink.peer = "fd00::2": must be an IPv4 address, as interlink.address is'),
        ({"peer": "169.254.11.2"}, 'interlink.peer = "169.254.11.2": must lie in 169.254.10.0/24, '),
        ({"prefix": 30, "peer": "169.254.10.5"}, 'interlink.peer = "169.254.10.5": must lie in 169.254.10.0/30, '),
        ({"prefix": 30, "peer": "169.254.10.3"}, 'interlink.peer = "169.254.10.3": must not be the first or the last'),
        ({"prefix": 32}, "interlink.prefix = 32: must be between 1 and 31"),
        ({"address": "127.0.0.1"}, 'interlink.address = "127.0.0.1": must be an address of one controller'),
        ({"address": "fe80::1", "peer": "fd00::2"}, 'interlink.address = "fe80::1": must not be a link-local address'),
        ({"interface": "an-interface-name"}, 'interlink.interface = "an-interface-name": is not the name of'),
        ({"port": 65535}, "interlink.port = 65535: must be between 1 and 65534; the one after it is the pairing's"),
    ],
)
def test_an_interlink_whose_two_ends_would_not_meet_is_refused(changes: dict[str, object], begins: str) -> None:
    said = sentences(**{f"interlink__{name}": value for name, value in changes.items()})
    assert said[0].startswith(begins)


def test_two_addresses_are_a_network_of_their_own_in_ipv4_and_ipv6() -> None:
    assert sentences(interlink__prefix=31, interlink__address="169.254.10.2", interlink__peer="169.254.10.3") == []
    assert sentences(interlink__prefix=64, interlink__address="fd00::1", interlink__peer="fd00::2") == []


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"address": "192.0.2"}, 'first_address.address = "192.0.2": is not an IP address'),
        ({"prefix": 33}, 'first_address.address = "192.0.2.1": is not an IP address with a prefix'),
        ({"address": "127.0.0.1"}, 'first_address.address = "127.0.0.1": must be an address that others can reach'),
        ({"interface": "il0"}, 'first_address.interface = "il0": must not be the interlink; '),
        ({"interface": ""}, 'first_address.interface = "": is not the name of a network interface'),
        ({"prefix": 0}, 'first_address.address = "192.0.2.1": must not lie in the interlink\'s network; '),
    ],
)
def test_a_first_address_at_which_nobody_could_be_reached_is_refused(changes: dict[str, object], begins: str) -> None:
    first = {"interface": "eth0", "address": "192.0.2.1", "prefix": 24, **changes}
    said = sentences(**{f"first_address__{name}": value for name, value in first.items()})
    assert said[0].startswith(begins)


@pytest.mark.parametrize("port", [6000, 6001])
def test_the_api_does_not_listen_where_the_other_controller_calls(port: int) -> None:
    for host in ("0.0.0.0", "[::]", "169.254.10.1"):
        (said,) = sentences(listen=f"{host}:{port}")
        assert said.startswith(f'listen = "{host}:{port}": must not have the port {port}; it is interlink.port')
    assert sentences(listen=f"192.0.2.1:{port}") == []


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["/s/0", "/s/1"], "must be 3 or 5 shared disks, not 2"),
        (["/s/0", "/s/1", "/s/2", "/s/3"], "must be 3 or 5 shared disks, not 4"),
        (["/s/0", "/s/1", "/s/0"], "must not name a disk twice; it would vote twice"),
        (["/s/0", "/s/1", "s2"], "must be absolute paths, which s2 is not"),
        (["/s/0", "/s/1", "/s/8"], "must not name a disk that is in paths, as /s/8"),
    ],
)
def test_disks_that_make_no_majority_are_refused(paths: list[str], says: str) -> None:
    assert says in sentences(voters__paths=paths, voters__others=["/s/8", "/s/9"])[0]


@pytest.mark.parametrize(
    ("paths", "others", "begins"),
    [
        (["/a/0", "/b/0", "/c/0"], [], ("paths", "/a/0 and /b/0")),
        (["/a/0", "/a/1", "/a/0/"], [], ("paths", "/a/0 and /a/0/")),
        (["/s/0", "/s/1", "/s/2"], ["/t/1"], ("others", "/s/1 and /t/1")),
        (["/s/0", "/s/1", "/s/2"], ["/s/3", "/t/3/."], ("others", "/s/3 and /t/3/.")),
    ],
)
def test_disks_that_would_have_one_name_are_refused(
    paths: list[str], others: list[str], begins: tuple[str, str]
) -> None:
    (said,) = sentences(voters__paths=paths, voters__others=others)
    field, named = begins
    assert said.startswith(f"voters.{field} = ")
    assert said.endswith(
        f"must not name two disks whose paths end alike, as {named}; "
        "a disk is called by the last part of its path, and its slot area lies under that name"
    )


def test_shared_disks_without_an_interlink_are_refused() -> None:
    assert sentences(interlink=None) == [
        "voters: needs an [interlink]; two controllers that share disks must hear of each other"
    ]


def test_pools_of_two_controllers_need_shared_disks_that_vote() -> None:
    pools = {"pools": True, "pools.dialect": "zfs-fuse", "pools.disks": "/dev/shelf"}
    assert faults_in({**flat(PAIR), **pools}) == []
    assert faults_in({**flat({"node": "A"}), **pools}) == []
    assert [str(fault) for fault in faults_in({**flat(PAIR | {"voters": None}), **pools})] == [
        "pools: of two controllers need [voters]; nothing would say which of the two may import a pool"
    ]
    assert [str(fault) for fault in faults_in({**flat(PAIR), **pools, "pools.disks": "shelf"})] == [
        'pools.disks = "shelf": must be an absolute path'
    ]


def test_a_rule_about_a_field_that_is_faulty_by_itself_says_nothing() -> None:
    assert sentences(timing__lease_s="long", interlink__port="p", run_dir=3, voters__paths=[1, 2]) == []


def test_a_question_about_a_field_that_is_no_such_thing_is_unknown() -> None:
    fields = Fields({"number": 1, "text": "x", "truth": True, "list": ["a", 1]})
    for ask in (
        lambda: fields.number("text"),
        lambda: fields.number("truth"),
        lambda: fields.text("number"),
        lambda: fields.texts("list"),
        lambda: fields.text("none"),
        lambda: fields.address("text"),
    ):
        with pytest.raises(Unknown):
            ask()


def test_a_value_is_shown_as_the_file_has_it() -> None:
    assert shown("a") == '"a"'
    assert shown(True) == "true"
    assert shown(1.0) == "1.0"
    assert shown(float("inf")) == "inf"
    assert shown(["a", 1]) == '["a", 1]'
    assert shown({"a": 1}) == "{a = 1}"
