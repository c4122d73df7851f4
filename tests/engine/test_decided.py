"""What was decided, written in the words that the log's format has, and folded as everybody else will read it."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from middlewared.engine import decided
from middlewared.kernel.errors import UpgradePending
from middlewared.kernel.event import START, Casts, Catalogue, Event, Stamp
from middlewared.plugin import Noun


class Lit(Event, frozen=True, kw_only=True):
    """Its second version says how bright."""

    kind: ClassVar[str] = "lamp.lit"
    version: ClassVar[int] = 2
    since_format: ClassVar[tuple[int, ...]] = (1, 2)
    brightness: int


class Lamp(msgspec.Struct, frozen=True):
    brightness: int = 0


UP: Casts = {("lamp.lit", 1): lambda payload: {**payload, "brightness": 100}}
DOWN: Casts = {("lamp.lit", 2): lambda payload: {}}
NOUN: Noun[Any] = Noun(
    name="lamp",
    initial=Lamp(),
    events=(Lit,),
    decide=lambda state, command: [],
    evolve=lambda state, event: Lamp(event.brightness),
    table=Table("lamp", MetaData(), Column("id", Integer, primary_key=True)),
    project=lambda state: [],
    restore=lambda rows: Lamp(),
)
STAMP = Stamp(term=1, origin="A", actor="eva", request_id="r", wall_ns=0, method="lamp.light")


@pytest.mark.parametrize(("log_format", "version", "method", "brightness"), [(1, 1, "", 100), (2, 2, "lamp.light", 30)])
def test_the_state_is_what_the_written_version_says(
    log_format: int, version: int, method: str, brightness: int
) -> None:
    catalogue = Catalogue([Lit], UP, DOWN)
    (record,), state = decided.write(NOUN, Lamp(), [Lit(brightness=30)], START, STAMP, catalogue, log_format)
    assert (record.version, record.method) == (version, method)
    assert state == NOUN.evolve(Lamp(), catalogue.open(record)) == Lamp(brightness)


def test_an_event_that_the_format_has_no_words_for_is_refused() -> None:
    with pytest.raises(UpgradePending, match=r"lamp\.lit needs log format 2"):
        decided.write(NOUN, Lamp(), [Lit(brightness=30)], START, STAMP, Catalogue([Lit], UP), 1)
