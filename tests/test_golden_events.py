"""Every version of every event that was ever written, as its bytes stand in somebody's log: they are read for ever."""

from __future__ import annotations

import msgspec
import pytest
from middlewared_plugins.auth.user import AdministratorSetUp, AdministratorSetUpSealed
from middlewared_plugins.failover import quarantine, settings, voters
from middlewared_plugins.network import configuration, interface, vip
from middlewared_plugins.network.interface_rules import Address, Interface, Virtual
from middlewared_plugins.pool import pool

from middlewared.engine import registry as plugins
from middlewared.kernel.event import GENESIS_HASH, Event, Record
from middlewared.kernel.facts import PerNode, Vip
from middlewared.kernel.secret import Sealed
from middlewared.kernel.tail import Tail
from middlewared.kernel.tenure import TermBegan
from middlewared.log_format import Raised

SEALED = Sealed("c0ffee00", bytes(range(12)), b"\xff")
USERS_REWRAPPED = next(e for e in plugins.load().nouns["user"].events if e.kind == "user.secrets.rewrapped")

GOLDEN: dict[tuple[str, int], tuple[bytes, Event]] = {
    ("term.begin", 1): (
        b'{"owner":"B","reason":"the peer is gone","prev_last_seq":41,"in_sync":["A","B"],"adopted":2}',
        TermBegan(owner="B", reason="the peer is gone", prev_last_seq=41, in_sync=("A", "B"), adopted=2),
    ),
    ("log.format.raised", 1): (b'{"log_format":2}', Raised(log_format=2)),
    ("user.administrator.set_up", 1): (
        b'{"username":"root","password_hash":"$argon2id$x"}',
        AdministratorSetUp(username="root", password_hash="$argon2id$x"),
    ),
    ("user.administrator.set_up_sealed", 1): (
        b'{"username":"root","password_hash":{"kid":"c0ffee00","nonce":"AAECAwQFBgcICQoL","ct":"/w=="}}',
        AdministratorSetUpSealed(username="root", password_hash=SEALED),
    ),
    ("user.secrets.rewrapped", 1): (
        b'{"envelopes":{"root.password_hash":{"kid":"c0ffee00","nonce":"AAECAwQFBgcICQoL","ct":"/w=="}}}',
        USERS_REWRAPPED(envelopes={"root.password_hash": SEALED}),
    ),
    ("failover.settings.updated", 1): (
        b'{"disabled":true,"default_node":"B","timeout_s":30}',
        settings.Updated(disabled=True, default_node="B", timeout_s=30),
    ),
    ("failover.voters.updated", 1): (
        b'{"number":262144,"sets":[["S0","S1","S2"],["S2","S3","S4"]]}',
        voters.Updated(number=262144, sets=(("S0", "S1", "S2"), ("S2", "S3", "S4"))),
    ),
    ("interface.edited", 1): (
        b'{"interface":{"name":"eth0","aliases":[{"address":"10.0.0.1","prefix":24}],"failover_aliases":'
        b'[{"address":"10.0.0.2","prefix":24}],"virtual_aliases":[{"address":"10.0.0.9","vhid":21}],"critical":true,'
        b'"group":1,"description":"storage"}}',
        interface.Edited(
            interface=Interface(
                name="eth0",
                aliases=(Address(address="10.0.0.1", prefix=24),),
                failover_aliases=(Address(address="10.0.0.2", prefix=24),),
                virtual_aliases=(Virtual(address="10.0.0.9", vhid=21),),
                critical=True,
                group=1,
                description="storage",
            )
        ),
    ),
    ("interface.deleted", 1): (b'{"name":"eth0"}', interface.Deleted(name="eth0")),
    ("interface.committed", 1): (
        b'{"id":"b.7000","timeout_s":60,"boot_id":"b","uptime_ms":7000,"wall_ns":9}',
        interface.Committed(id="b.7000", timeout_s=60, boot_id="b", uptime_ms=7000, wall_ns=9),
    ),
    ("interface.checked_in", 1): (b"{}", interface.CheckedIn()),
    ("interface.rollback_cancelled", 1): (b"{}", interface.RollbackCancelled()),
    ("interface.rolled_back", 1): (b'{"trial":"b.7000"}', interface.RolledBack(trial="b.7000")),
    ("failover.quarantine.added", 1): (
        b'{"tail":{"node":"A","digest":"ab","first":3,"last":4,"n":2,"at_ns":9,"answered":1,"since_ns":5,"until_ns":6,'
        b'"terms":[1],"kinds":{"term.begin":2},"actors":["eva@10.0.0.5:1"]}}',
        quarantine.Added(
            tail=Tail(
                node="A",
                digest="ab",
                first=3,
                last=4,
                n=2,
                at_ns=9,
                answered=1,
                since_ns=5,
                until_ns=6,
                terms=(1,),
                kinds={"term.begin": 2},
                actors=("eva@10.0.0.5:1",),
            )
        ),
    ),
    ("failover.quarantine.reapplied", 1): (
        b'{"id":"A-ab","result":{"applied":1,"unchanged":2,"refused":1,"not_reapplicable":3,"refusals":[{"seq":4,"reason":"no"}]}}',
        quarantine.Reapplied(
            id="A-ab",
            result=quarantine.Result(
                applied=1, unchanged=2, refused=1, not_reapplicable=3, refusals=(quarantine.Refusal(4, "no"),)
            ),
        ),
    ),
    ("failover.quarantine.discarded", 1): (
        b'{"id":"A-ab","reason":"of no use"}',
        quarantine.Discarded(id="A-ab", reason="of no use"),
    ),
    ("network.configuration.updated", 1): (
        b'{"hostnames":{"A":"left","B":"right"},"domain":"lab.example","domains":[],"nameserver1":"10.0.0.53",'
        b'"ipv4gateway":"","hosts":["10.0.0.3 printer"]}',
        configuration.Updated(
            hostnames=PerNode(A="left", B="right"),
            domain="lab.example",
            domains=(),
            nameserver1="10.0.0.53",
            ipv4gateway="",
            hosts=("10.0.0.3 printer",),
        ),
    ),
    ("network.vip.updated", 1): (
        b'{"vip":{"vhid":7,"address":"10.0.0.9","prefix":24,"interface":"lan0"}}',
        vip.Updated(vip=Vip(vhid=7, address="10.0.0.9", prefix=24, interface="lan0")),
    ),
    ("network.vip.deleted", 1): (b"{}", vip.Deleted()),
    ("pool.added", 1): (
        b'{"pool":{"id":1,"name":"tank","guid":"8453837988298905108","disks":["SHELF-0","SHELF-1"]}}',
        pool.Added(pool=pool.Pool(id=1, name="tank", guid="8453837988298905108", disks=("SHELF-0", "SHELF-1"))),
    ),
    ("pool.removed", 1): (b'{"guid":"8453837988298905108"}', pool.Removed(guid="8453837988298905108")),
}


def record(kind: str, version: int, payload: bytes) -> Record:
    return Record(1, 1, "A", kind, version, "", "", 0, payload, GENESIS_HASH, b"")


@pytest.mark.parametrize(("kind", "version"), GOLDEN)
def test_an_event_of_any_age_is_read_as_what_it_means_today(kind: str, version: int) -> None:
    payload, event = GOLDEN[kind, version]
    assert plugins.load().catalogue.open(record(kind, version, payload)) == event


@pytest.mark.parametrize(("kind", "version"), GOLDEN)
def test_todays_version_is_written_as_it_always_was(kind: str, version: int) -> None:
    payload, event = GOLDEN[kind, version]
    if version == event.version:
        assert (event.kind, msgspec.json.encode(event)) == (kind, payload)


def test_every_kind_that_a_plugin_writes_is_here_in_its_present_version() -> None:
    nouns = plugins.load().nouns.values()
    written = {(event.kind, event.version) for noun in nouns for event in noun.events}
    assert written | {(TermBegan.kind, TermBegan.version)} <= set(GOLDEN)
