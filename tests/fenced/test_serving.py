"""When clients may come, and when a controller with pools must end."""

from __future__ import annotations

import msgspec

from middlewared.fenced.serving import Serving
from middlewared.protocol import hub

SETTINGS = hub.Settings(
    paired=True,
    cluster_id="c",
    key=b"k" * 32,
    disabled=False,
    default_node="A",
    timeout_s=0.0,
    single_term=1,
    vips=(),
)
WITH_POOLS = msgspec.structs.replace(SETTINGS, pools=True)


def serving(*pools: str, serves: bool = False) -> Serving:
    return Serving(serves=serves, pools=pools, failed=None, failed_at=None)


def test_a_new_owner_serves_at_once_where_no_pool_is_configured() -> None:
    new = serving()
    new.gained(SETTINGS)
    assert new.serves


def test_a_new_owner_waits_for_its_pools() -> None:
    new = serving()
    new.gained(WITH_POOLS)
    assert not new.serves


def test_a_new_owner_with_a_pool_that_nobody_configured_waits_too() -> None:
    new = serving("1234")
    new.gained(SETTINGS)
    assert not new.serves


def test_a_term_that_is_gained_forgets_that_one_failed() -> None:
    new = serving()
    new.fail("tank cannot be imported", 5.0)
    assert (new.failed, new.failed_at) == ("tank cannot be imported", 5.0)
    new.gained(WITH_POOLS)
    assert (new.failed, new.failed_at) == (None, None)


def test_who_lost_the_term_to_the_peer_with_a_pool_imported_must_end() -> None:
    assert serving("1").must_end("B owns", owns=False) == "1 pools are imported here, and B owns"
    assert serving().must_end("B owns", owns=False) is None
    assert serving("1").must_end("B owns", owns=True) is None


def test_who_only_lost_sight_of_the_disks_goes_on_waiting() -> None:
    assert serving("1").must_end(None, owns=False) is None
