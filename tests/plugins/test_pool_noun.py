"""The pools that the pair has."""

from __future__ import annotations

import pytest
from middlewared_plugins.pool.pool import NOUN, Add, Added, Pool, Pools, Remove, Removed, project, restore

from tests.plugins.given import given

TANK = Pool(id=1, name="tank", guid="11", disks=("S-0", "S-1"))
DOZER = Pool(id=2, name="dozer", guid="22", disks=("S-2",))
HAVE_TANK = Added(pool=TANK)


def add(name: str = "tank", guid: str = "11") -> Add:
    return Add(name=name, guid=guid, disks=("S-0", "S-1"))


def test_a_new_system_has_no_pools() -> None:
    assert NOUN.initial.pools == ()


def test_a_pool_gets_the_next_number() -> None:
    given(NOUN).when(add()).then(HAVE_TANK)
    second = Add(name="dozer", guid="22", disks=("S-2",))
    given(NOUN, HAVE_TANK).when(second).then(Added(pool=DOZER))


def test_a_name_and_a_guid_are_there_once() -> None:
    assert given(NOUN, HAVE_TANK).when(add()).refused() == {
        "name": "there is a pool tank already",
        "guid": "pool 11 is there already",
    }
    assert list(given(NOUN, HAVE_TANK).when(add(guid="12")).refused()) == ["name"]


@pytest.mark.parametrize("name", ["", "1tank", "a b", "a/b", "mirror", "raidz2", "spares", "log", "c0t0", "x" * 51])
def test_what_zfs_takes_for_something_else_is_no_name(name: str) -> None:
    assert list(given(NOUN).when(add(name)).refused()) == ["name"]


@pytest.mark.parametrize("name", ["tank", "logs", "Tank-2", "a", "x" * 50, "data_1.2:3"])
def test_other_names_are_taken(name: str) -> None:
    assert given(NOUN).when(add(name)).after().named(name) is not None


def test_a_pool_is_removed_by_its_guid_and_removing_none_changes_nothing() -> None:
    given(NOUN, HAVE_TANK).when(Remove(guid="11")).then(Removed(guid="11"))
    assert given(NOUN, HAVE_TANK, Added(pool=DOZER)).when(Remove(guid="11")).after() == Pools(pools=(DOZER,))
    given(NOUN, HAVE_TANK).when(Remove(guid="99")).then()


def test_rows_are_the_state_whatever_their_order() -> None:
    state = Pools(pools=(TANK, DOZER))
    assert restore(list(reversed(project(state)))) == state
    assert restore([]) == Pools()
