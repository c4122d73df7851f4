from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from middlewared.engine.registry import GROUP, Registry, parameters_of
from middlewared.kernel.errors import BadPlugin
from middlewared.kernel.event import Event
from middlewared.plugin import Call, Effect, Noun, Plugin, command, query


class Counted(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "shop.counter.counted"


class Elsewhere(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "cellar.counted"


class Second(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "shop.counter.counted"
    version: ClassVar[int] = 2


class Options(msgspec.Struct):
    a: int


def noun(name: str = "shop.counter", events: Sequence[type[Event]] = (Counted,)) -> Noun[Any]:
    table = Table("t", MetaData(), Column("n", Integer))
    return Noun(
        name=name,
        initial=Options(a=1),
        events=tuple(events),
        decide=lambda s, c: [],
        evolve=lambda s, e: s,
        table=table,
        project=lambda s: [],
        restore=lambda r: Options(a=1),
    )


@query("shop.list")
async def list_(call: Call, filters: list[str], *, count: bool = False) -> None: ...


@query("shop.get")
async def get(call: Call, number: int, name: str = "") -> None:
    """Get one."""


@command("shop.update", takes="shop_update")
async def update(call: Call, number: int, data: Options) -> None: ...


async def nothing(view: object) -> None: ...


def test_nouns_methods_kinds_and_collections_lie_side_by_side() -> None:
    effect = Effect(name="e", watches=("shop.counter",), reconcile=nothing)
    registry = Registry(
        [
            Plugin(name="shop", nouns=(noun(),), methods=(get,), effects=(effect,), events=("shop.opened",)),
            Plugin(name="cellar", methods=(update,), needs=("shop.get",)),
        ]
    )
    assert set(registry.nouns) == {"log.format", "shop.counter"}
    assert registry.owners == {"shop.get": "shop", "shop.update": "cellar"}
    assert registry.noun_of == {"shop.counter.counted": "shop.counter", "log.format.raised": "log.format"}
    assert registry.collections == ("shop.counter", "shop.opened")
    assert registry.effects == (effect,)
    assert registry.needs["cellar"] == {"shop.get"}


@pytest.mark.parametrize(
    ("plugins", "sentence"),
    [
        ([Plugin(name="a"), Plugin(name="a")], "plugin a: there are two of that name"),
        ([Plugin(name="a", nouns=(noun(), noun()))], "plugin a: there are two nouns shop.counter"),
        ([Plugin(name="a", nouns=(noun(events=(Elsewhere,)),))], "cellar.counted does not begin with shop.counter."),
        ([Plugin(name="a", nouns=(noun(events=(Counted, Counted)),))], "shop.counter.counted is declared twice"),
        ([Plugin(name="a", nouns=(noun(events=(Second,)),))], "has a version that nothing lifts"),
        (
            [Plugin(name="a", nouns=(replace(noun(events=(Second,)), upcasts={("shop.counter.counted", 1): dict}),))],
            "has a version without its since_format",
        ),
        ([Plugin(name="a", methods=(get,)), Plugin(name="b", methods=(get,))], "method shop.get is a's already"),
        ([Plugin(name="a", needs=("x.y",))], "plugin a: it needs x.y, which no plugin has"),
        ([Plugin(name="a", methods=(update,), needs=("shop.update",))], "it needs shop.update, which is not a query"),
        ([Plugin(name="a", effects=(Effect(name="e", watches=("n",), reconcile=nothing),))], "it watches n, which is"),
        ([Plugin(name="a", methods=(list_,))], "method shop.list: parameter count must have a name and a type"),
    ],
)
def test_a_plugin_that_breaks_a_rule_is_named_with_the_rule(plugins: list[Plugin], sentence: str) -> None:
    with pytest.raises(BadPlugin, match=sentence):
        Registry(plugins)


def test_parameters_are_read_from_the_handler_and_the_object_is_reported_as_the_method_says() -> None:
    declared = [(p.name, p.type, p.required, p.attribute) for p in parameters_of(update).all]
    assert declared == [("number", int, True, "number"), ("data", Options, True, "shop_update")]
    assert [(p.name, p.required) for p in parameters_of(get).all] == [("number", True), ("name", False)]


def test_a_handler_that_is_not_asynchronous_is_refused() -> None:
    def plain(call: Call) -> None: ...

    with pytest.raises(BadPlugin, match="not an async function"):
        parameters_of(query("x.y")(plain))  # type: ignore[arg-type]


def test_a_plugin_that_does_not_import_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from middlewared.engine import registry

    point = EntryPoint(name="broken", value="no.such.module:plugin", group=GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(BadPlugin, match="plugin broken: ModuleNotFoundError"):
        registry.load()
