"""The conditions of the alerts, and the methods."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from middlewared_plugins.alert import plugin as alert
from middlewared_plugins.alert.sources import SOURCES

from middlewared.engine.dispatch import Dispatcher
from middlewared.engine.peer import Questions
from middlewared.engine.standin import FACTS, MemoryEngine, dispatcher
from middlewared.kernel.event import LOG_FORMAT
from middlewared.kernel.facts import SharedDisk, Sighting, SightingKind
from middlewared.kernel.outlook import Side
from middlewared.plugin import Alert, PeerBuild
from middlewared.protocol.availability import disagreements
from middlewared.protocol.sightings import FORGET_S
from tests.plugins.client import Client

HEALTHY = msgspec.structs.replace(
    FACTS, paired=True, peer_connected=True, peer_heard=True, in_sync=("A", "B"), disks_ok=3, disks_total=3
)
A_DISK = SharedDisk(
    serial="S0",
    sets=(0,),
    changing=False,
    reachable=True,
    owner="A",
    term=1,
    keeps="slots",
    slots_of="",
    error="no answer within 250 ms",
)
(NO_ADDRESS, OTHER_DISKS) = disagreements(
    Side(node="A", version="0", status="BACKUP", vips={"192.0.2.10": "BACKUP"}, disks=("S0", "S1")),
    Side(node="B", version="0", status="BACKUP", vips={"192.0.2.10": "BACKUP"}, disks=("S0",)),
)
SAME = PeerBuild(version="0", age="same", log_format_max=LOG_FORMAT)
NEWER = PeerBuild(version="9", age="newer", log_format_max=LOG_FORMAT)
FIRST_BUILD = PeerBuild(version="", age="older", log_format_max=1)
World = tuple[Dispatcher, MemoryEngine]


@pytest.fixture
def world() -> World:
    made, engine, _ = dispatcher(alert)
    engine.facts_now = HEALTHY
    return made, engine


def classes(**fields: object) -> list[str]:
    """The classes that hold in a healthy pair but for `fields`."""
    facts = msgspec.structs.replace(HEALTHY, **fields)
    return [source.klass for source in SOURCES if source.holds(facts)]


def sighting(kind: SightingKind, count: int = 3) -> Sighting:
    return Sighting(
        kind=kind,
        interface="eth0",
        vhid=7,
        address="192.0.2.10",
        who="02:00:00:00:00:09",
        how="an ARP reply",
        count=count,
        first_at=1.0,
        last_at=2.0,
    )


def test_strangers_who_touch_what_is_ours_are_told_and_one_with_a_number_of_its_own_too() -> None:
    assert classes(sightings=(sighting("VIP_CONFLICT", 1),)) == ["VipConflict"]
    assert classes(sightings=(sighting("DUPLICATE_VHID"),)) == ["DuplicateVhid"]
    assert classes(sightings=(sighting("DUPLICATE_VHID", 2),)) == []
    assert classes(sightings=(sighting("FOREIGN_VHID", 1),)) == ["ForeignVhid"]


def test_a_middlewared_that_stood_still_is_told_and_one_on_a_busy_machine_is_not() -> None:
    assert classes(stood_still_s=0.7) == ["StoodStill"]
    assert classes(stood_still_s=0.6) == []


def test_a_conflict_says_which_address_where_and_who() -> None:
    facts = msgspec.structs.replace(HEALTHY, sightings=(sighting("VIP_CONFLICT"),))
    (source,) = [source for source in SOURCES if source.klass == "VipConflict"]
    told = source.holds(facts)
    assert isinstance(told, dict)
    assert all(word in told["192.0.2.10"] for word in ("192.0.2.10", "eth0", "02:00:00:00:00:09"))


def test_a_number_that_somebody_else_uses_is_told_for_each_interface_with_the_sender() -> None:
    ours = msgspec.structs.replace(
        sighting("FOREIGN_VHID"), address="", who="192.0.2.99", how="VRRP adverts", interface="eth0"
    )
    facts = msgspec.structs.replace(
        HEALTHY, node="B", sightings=(ours, msgspec.structs.replace(ours, interface="eth1", count=4))
    )
    (source,) = [source for source in SOURCES if source.klass == "ForeignVhid"]
    assert source.level == "INFO"
    assert source.holds(facts) == {
        f"{name}-7": f"Another router uses VHID 7 on {name} of controller B, which no virtual address of this pair has "
        "there: VRRP adverts from 192.0.2.99"
        for name in ("eth0", "eth1")
    }


async def test_a_stray_advert_of_a_number_that_was_given_up_is_no_alert(world: World) -> None:
    api, engine = world
    admin = Client(api, "FULL_ADMIN")

    async def told(uptime_s: float, *sightings: Sighting) -> list[str]:
        engine.facts_now = msgspec.structs.replace(HEALTHY, uptime_s=uptime_s, sightings=sightings)
        return [told["klass"] for told in await admin.call("alert.list")]

    seen = sighting("FOREIGN_VHID", 1)
    assert await told(100.0, seen) == []
    assert await told(100.0 + FORGET_S, seen) == [], "it is remembered for so long"
    assert await told(101.0 + FORGET_S) == []
    assert await told(200.0, seen) == []
    assert await told(202.0 + FORGET_S, seen) == ["ForeignVhid"]


def test_an_address_that_nobody_holds_and_disks_that_one_misses_are_named() -> None:
    facts = msgspec.structs.replace(HEALTHY, node="B", disagreements=(NO_ADDRESS, OTHER_DISKS))
    told = {source.klass: held for source in SOURCES if (held := source.holds(facts))}
    assert told == {
        "VipsDisagree": {"192.0.2.10": "Seen from controller B: 192.0.2.10 is BACKUP on both controllers"},
        "DisksDiffer": "Seen from controller B: The controllers see different disks: only A sees S1",
    }


def test_a_healthy_pair_and_a_controller_by_itself_have_no_alert() -> None:
    assert classes() == []
    assert [source.klass for source in SOURCES if source.holds(FACTS)] == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"quarantined": 1}, ["QuarantineNotEmpty"]),
        (
            {"status": "ERROR", "halted": "the logs differ", "peer_connected": False, "peer_heard": False},
            ["LogHalted", "PeerUnreachable"],
        ),
        ({"status": "ERROR", "failed": "import: tank: no such pool"}, ["PromotionFailed"]),
        ({"status": "ERROR", "failed": "x", "halted": "the logs differ"}, ["LogHalted", "PromotionFailed"]),
        ({"peer_refused": "the logs differ", "peer_connected": False}, ["PeerRefuses"]),
        ({"apply_blocked": "seq 5"}, ["ApplyBlocked"]),
        ({"pools_degraded": {"tank": "a disk is missing"}}, ["PoolDegraded"]),
        ({"pool_fault": "tank is SUSPENDED"}, ["PoolFault"]),
        ({"no_room": "/data has 3 MiB of free space"}, ["DiskFull"]),
        ({"log_damaged": "log.db: seq 3: its bytes do not give its hash"}, ["LogDamaged"]),
        ({"peer_connected": False}, ["PeerUnreachable"]),
        ({"in_sync": ("A",)}, ["PeerNotInSync"]),
        ({"in_sync": ("A",), "status": "BACKUP"}, []),
        ({"in_sync": ("A",), "peer_connected": False}, ["PeerUnreachable"]),
        ({"peer": NEWER}, ["VersionsDiffer"]),
        ({"peer_apart": "formats", "peer_connected": False}, ["VersionsDiffer", "PeerUnreachable"]),
        ({"log_format": 1, "peer": SAME}, ["UpgradePending"]),
        ({"log_format": 1, "peer": FIRST_BUILD}, ["VersionsDiffer"]),
        ({"log_format": 1, "peer": SAME, "status": "BACKUP"}, []),
        ({"log_format": 1, "paired": False, "status": "SINGLE", "peer_connected": False}, ["UpgradePending"]),
        ({"flapping": True}, ["Flapping"]),
        ({"disagreements": (NO_ADDRESS,)}, ["VipsDisagree"]),
        ({"disagreements": (OTHER_DISKS,)}, ["DisksDiffer"]),
        ({"effects": {"hosts": "read-only", "routes": None}}, ["EffectFailing"]),
        ({"shared_disks": (A_DISK,)}, []),
        ({"shared_disks": (A_DISK, msgspec.structs.replace(A_DISK, reachable=False))}, ["SharedDiskLost"]),
    ],
)
def test_each_thing_that_an_operator_must_know_has_its_alert(change: dict[str, Any], found: list[str]) -> None:
    assert classes(**change) == found


@pytest.mark.parametrize(
    "change",
    [
        {"quarantined": 1},
        {"halted": "x"},
        {"failed": "x"},
        {"peer_refused": "x"},
        {"apply_blocked": "x"},
        {"pools_degraded": {"tank": "x"}},
        {"pool_fault": "x"},
        {"no_room": "x"},
        {"log_damaged": "x"},
        {"state_differs": "x"},
        {"peer_connected": False},
        {"in_sync": ("B",)},
        {"peer": NEWER},
        {"peer_apart": "x"},
        {"log_format": 1, "peer": SAME},
        {"effects": {"hosts": "x"}},
        {"flapping": True},
        {"disagreements": (NO_ADDRESS, OTHER_DISKS)},
        {"ended": "x"},
        {"ended_often": True},
        {"shared_disks": (msgspec.structs.replace(A_DISK, reachable=False),)},
        {"sightings": (sighting("VIP_CONFLICT"), sighting("DUPLICATE_VHID"))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_says_of_which_controller_it_is(change: dict[str, Any]) -> None:
    facts = msgspec.structs.replace(HEALTHY, node="B", **change)
    held = [told for source in SOURCES if (told := source.holds(facts))]
    sentences = [text for told in held for text in ((told,) if isinstance(told, str) else told.values())]
    assert sentences and all("ontroller B" in text for text in sentences), sentences


def test_what_passes_by_itself_is_told_after_a_while() -> None:
    patience = {source.klass: source.after_s for source in SOURCES if source.after_s}
    assert patience == {
        "PeerNotInSync": 5.0,
        "PeerUnreachable": 1.0,
        "PeerRefuses": 1.0,
        "ForeignVhid": 12.0,
        "VipsDisagree": 2.0,
        "DisksDiffer": 5.0,
        "SharedDiskLost": 5.0,
    }


async def test_an_alert_is_listed_with_its_controller_dismissed_and_restored(world: World) -> None:
    api, engine = world
    engine.facts_now = msgspec.structs.replace(HEALTHY, apply_blocked="seq 5: unknown", wall_ns=7_000_000)
    admin = Client(api, "FULL_ADMIN")
    assert await admin.call("alert.list") == [
        {
            "id": "ApplyBlocked-A",
            "klass": "ApplyBlocked",
            "level": "CRITICAL",
            "node": "A",
            "text": "The log holds an event that cannot be applied",
            "formatted": "Controller A applies nothing more: seq 5: unknown",
            "datetime": {"$date": 7},
            "dismissed": False,
        }
    ]
    await admin.call("alert.dismiss", "ApplyBlocked-A")
    assert [a["dismissed"] for a in await admin.call("alert.list")] == [True]
    await admin.call("alert.restore", "ApplyBlocked-A")
    assert [a["dismissed"] for a in await admin.call("alert.list")] == [False]


async def test_an_alert_that_is_not_there_cannot_be_dismissed(world: World) -> None:
    told = await Client(world[0], "ALERT_LIST_WRITE").call("alert.dismiss", "Nothing-A")
    assert told["extra"] == [["id", "there is no alert Nothing-A", 2]]


async def test_reading_and_dismissing_need_their_roles(world: World) -> None:
    assert (await Client(world[0], "ALERT_LIST_READ").call("alert.dismiss", "x"))["errname"] == "EACCES"
    assert (await Client(world[0], "NOTHING").call("alert.list"))["errname"] == "EACCES"


async def test_every_class_is_listed_under_its_category(world: World) -> None:
    (category,) = await Client(world[0], "ALERT_LIST_READ").call("alert.list_categories")
    assert [c["id"] for c in category["classes"]] == [source.klass for source in SOURCES]


async def test_the_other_controllers_alerts_are_told_with_its_name_and_can_be_dismissed_here(world: World) -> None:
    api, engine = world
    theirs = Alert(
        id="LogHalted-B",
        klass="LogHalted",
        level="CRITICAL",
        node="B",
        text="halted",
        formatted="halted",
        datetime={"$date": 1},
        dismissed=False,
    )
    engine.peer["alert.own"] = [theirs]
    engine.facts_now = msgspec.structs.replace(HEALTHY, apply_blocked="seq 5", wall_ns=7_000_000)
    admin = Client(api, "FULL_ADMIN")
    assert [a["node"] for a in await admin.call("alert.list")] == ["B", "A"]
    await admin.call("alert.dismiss", "LogHalted-B")
    assert [a["dismissed"] for a in await admin.call("alert.list")] == [True, False]
    del engine.peer["alert.own"]
    assert [a["node"] for a in await admin.call("alert.list")] == ["A"]
    await Questions(api)("alert.own", ())
    engine.peer["alert.own"] = [theirs]
    assert [a["dismissed"] for a in await admin.call("alert.list")] == [True, False]
    engine.peer["alert.own"] = []
    assert [a["node"] for a in await admin.call("alert.list")] == ["A"]
    engine.peer["alert.own"] = [theirs]
    assert [a["dismissed"] for a in await admin.call("alert.list")] == [False, False]


async def test_the_other_controller_is_told_of_this_one_alone(world: World) -> None:
    api, engine = world
    engine.facts_now = msgspec.structs.replace(HEALTHY, apply_blocked="seq 5")
    told = await Questions(api)("alert.own", ())
    assert [alert.id for alert in msgspec.convert(told, list[Alert])] == ["ApplyBlocked-A"]
    assert engine.asked == []
