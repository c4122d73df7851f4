from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from middlewared.kernel.errors import Refused
from middlewared.protocol.params import Parameter, Parameters, problems


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    prefix: int


class Update(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    hostname: str | UnsetType = UNSET
    vhid: Annotated[int, Meta(ge=1, le=255)] = 1
    mode: Literal["A", "B"] | UnsetType = UNSET
    servers: list[str] = []
    aliases: list[Inner] = []
    by_name: dict[str, int] = {}


def parameter(name: str, type_: Any, *, required: bool = True, attribute: str | None = None) -> Parameter:
    return Parameter(name=name, type=type_, required=required, attribute=attribute or name)


UPDATE = Parameters([parameter("data", Update, attribute="update")])
TWO = Parameters([parameter("a", int), parameter("b", str, required=False)])


def refused(parameters: Parameters, *args: object, **kwargs: object) -> dict[str, str]:
    with pytest.raises(Refused) as raised:
        parameters.bind(args, kwargs)
    return {field: message for field, message, _ in raised.value.problems}


def test_good_arguments_are_converted() -> None:
    assert UPDATE.bind(({"vhid": 7},), {}) == ([Update(vhid=7)], {})
    assert TWO.bind((), {"b": "x", "a": 1}) == ([], {"b": "x", "a": 1})


def test_what_may_be_left_out_is_left_to_the_handler() -> None:
    assert TWO.bind((1,), {}) == ([1], {})


def test_every_fault_is_found_at_once_and_named_by_its_path() -> None:
    given_ = {
        "hostname": 5,
        "vhid": 300,
        "mode": "C",
        "servers": ["x", 4],
        "aliases": [{"address": "a", "prefix": 1}, {"address": 3, "extra": 1}],
        "by_name": {"k": "v"},
        "foo": 1,
    }
    assert refused(UPDATE, given_) == {
        "update.foo": "there is no such field",
        "update.hostname": "must be a string, not a whole number",
        "update.vhid": "must be a whole number <= 255",
        "update.mode": "must be one of A, B",
        "update.servers.1": "must be a string, not a whole number",
        "update.aliases.1.extra": "there is no such field",
        "update.aliases.1.address": "must be a string, not a whole number",
        "update.aliases.1.prefix": "is required",
        "update.by_name.k": "must be a whole number, not a string",
    }


def test_an_object_of_the_wrong_type_is_a_fault_of_the_whole() -> None:
    assert refused(UPDATE, [1]) == {"update": "must be an object, not a list"}


def test_too_few_too_many_and_unknown_parameters_are_named() -> None:
    assert refused(TWO) == {"a": "is required"}
    assert refused(TWO, 1, "x", 3) == {"params": "3 parameters were given, the method takes 2"}
    assert refused(TWO, z=1) == {"z": "there is no such parameter", "a": "is required"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.sampled_from(["hostname", "vhid", "mode", "aliases", "x"]), s),
    )
)
def test_faults_are_found_exactly_where_conversion_fails(value: object) -> None:
    try:
        msgspec.convert(value, Update)
    except msgspec.ValidationError:
        assert problems(value, Update, "update")
    else:
        assert problems(value, Update, "update") == []
