from __future__ import annotations

import pytest

from middlewared.kernel.secret import KeyBundle, bound_to, may_pair


def test_a_bundle_shows_its_ids_and_no_key() -> None:
    assert repr(KeyBundle("a1", {"a1": b"very secret", "b2": b"x"})) == "KeyBundle(active='a1', keys=['a1', 'b2'])"


def test_no_two_places_are_bound_alike() -> None:
    assert bound_to("a", 'b","c') != bound_to('a","b', "c")
    assert bound_to("user", "root") == b'["mw-secret1","user","root"]'


@pytest.mark.parametrize(
    ("mine", "theirs", "may"),
    [
        (("a",), ("a",), True),
        (("a",), ("a", "b"), True),
        (("a", "b"), ("a",), True),
        ((), ("a",), True),
        (("a",), (), True),
        (("a",), ("b",), False),
        (("a", "c"), ("a", "b"), False),
    ],
)
def test_two_controllers_pair_while_one_of_them_holds_all_keys(
    mine: tuple[str, ...], theirs: tuple[str, ...], may: bool
) -> None:
    assert may_pair(mine, theirs) is may
