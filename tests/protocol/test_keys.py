"""Derived keys."""

from __future__ import annotations

from middlewared.protocol.carp_packet import KEY_SIZE
from middlewared.protocol.keys import carp_key, heartbeat_key


def test_each_purpose_has_its_own_key_and_none_is_the_clusters() -> None:
    cluster_key = b"k" * 32
    assert len({carp_key(cluster_key), heartbeat_key(cluster_key)[:KEY_SIZE], cluster_key[:KEY_SIZE]}) == 3


def test_a_carp_key_is_as_long_as_carp_allows() -> None:
    assert len(carp_key(b"")) == KEY_SIZE
