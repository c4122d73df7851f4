"""The compiled shim, and one recorded run of each workload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.crash.recorded import Lives, Recorded, build, record

Run = Callable[[str], Recorded]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def run(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """run(name): the workload, run once and recorded."""
    return cache(lambda name: record(shim, name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def lives(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    made = Lives(shim, tmp_path_factory.mktemp("lives"))
    yield made
    made.close()
