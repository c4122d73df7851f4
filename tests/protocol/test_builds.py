from __future__ import annotations

import msgspec
import pytest

from middlewared.protocol.builds import age
from middlewared.protocol.replication_frames import Identity

MINE = Identity(cluster_id="c", node="A", catalogue="x", log_format_max=2, version="0.9.1")


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({}, "same"),
        ({"catalogue": "y"}, "other"),
        ({"version": ""}, "older"),
        ({"version": "0.9.0"}, "older"),
        ({"version": "0.10.0"}, "newer"),
        ({"version": "2.0", "log_format_max": 1}, "older"),
        ({"version": "0.1", "log_format_max": 3, "catalogue": "y"}, "newer"),
    ],
)
def test_the_formats_that_a_build_reads_say_its_age_and_then_its_version(change: dict[str, object], seen: str) -> None:
    assert age(MINE, msgspec.convert({**msgspec.structs.asdict(MINE), **change}, Identity)) == seen
