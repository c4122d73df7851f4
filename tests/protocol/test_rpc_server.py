from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.protocol.rpc import Success
from middlewared.protocol.rpc_server import Limits, Table

TABLE = Table(["core.ping", "echo"])
DEFAULT = Limits()


def answers(text: bytes | str, limits: Limits = DEFAULT) -> tuple[list[str], object]:
    """The methods that were called, and the answer when each gives its own arguments back."""
    frame = TABLE.read(text, limits)
    answer = frame.answer([Success([*call.args, call.kwargs]) for call in frame.calls])
    return [call.method for call in frame.calls], None if answer is None else json.loads(answer)


def request(**members: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": "echo", "id": 1, **members})


def code(answer: object) -> object:
    assert isinstance(answer, dict)
    return answer["error"]["code"]


def test_a_call_by_place_gets_its_arguments_and_its_answer() -> None:
    assert answers(request(params=[1, "x"])) == (["echo"], {"jsonrpc": "2.0", "id": 1, "result": [1, "x", {}]})


def test_a_call_by_name_gets_its_arguments_by_name() -> None:
    _, answer = answers(request(params={"self": 1, "frame": 2}))
    assert answer == {"jsonrpc": "2.0", "id": 1, "result": [{"self": 1, "frame": 2}]}


@pytest.mark.parametrize("id_", ["abc", 0, -5, None, ""])
def test_the_answer_carries_the_id_of_the_request(id_: object) -> None:
    _, answer = answers(request(id=id_))
    assert isinstance(answer, dict)
    assert answer["id"] == id_


def test_a_notification_is_carried_out_and_not_answered() -> None:
    assert answers('{"jsonrpc":"2.0","method":"echo","params":[1]}') == (["echo"], None)


@pytest.mark.parametrize("text", ["", "{", '{"jsonrpc":"2.0",', b"\xff\xfe", b'"\xff"', "nonsense", "{}{}"])
def test_what_is_not_json_is_a_parse_error_without_an_id(text: bytes | str) -> None:
    called, answer = answers(text)
    assert called == []
    assert code(answer) == -32700
    assert answer["id"] is None  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "null",
        '"x"',
        "{}",
        "[]",
        request(jsonrpc="1.0"),
        request(method=5),
        request(method=""),
        request(params=3),
        request(id={}),
        request(id=True),
        request(id=1.5),
        request(extra=1),
    ],
)
def test_json_that_is_no_request_is_an_invalid_request(text: str) -> None:
    called, answer = answers(text)
    assert called == []
    assert code(answer) == -32600


def test_a_fault_is_answered_under_the_id_of_its_request_where_that_can_be_read() -> None:
    _, answer = answers(request(id="me", params=3))
    assert answer["id"] == "me"  # type: ignore[index]


def test_an_unknown_method_is_told_so() -> None:
    _, answer = answers(request(method="nope"))
    assert answer["error"] == {"code": -32601, "message": "Method does not exist"}  # type: ignore[index]


def test_one_bad_item_of_a_batch_does_not_spoil_the_others() -> None:
    items = [request(id=1), "1", request(id=3, method="nope"), '{"jsonrpc":"2.0","method":"core.ping"}', request(id=5)]
    called, answer = answers("[" + ",".join(items) + "]")
    assert called == ["echo", "core.ping", "echo"]
    assert isinstance(answer, list)
    assert [(a["id"], "result" in a) for a in answer] == [(1, True), (None, False), (3, False), (5, True)]


def test_a_batch_of_notifications_is_not_answered() -> None:
    assert answers('[{"jsonrpc":"2.0","method":"echo"},{"jsonrpc":"2.0","method":"echo"}]') == (["echo", "echo"], None)


def test_a_batch_beyond_the_limit_is_refused_whole() -> None:
    called, answer = answers("[" + ",".join([request()] * 4) + "]", Limits(batch=3))
    assert (called, code(answer)) == ([], -32600)


def test_a_text_beyond_the_limit_is_refused_and_says_the_limit() -> None:
    called, answer = answers(request(params=["x" * 200]), Limits(size=100))
    assert (called, code(answer)) == ([], -32600)
    assert "100 are allowed" in answer["error"]["message"]  # type: ignore[index]


@pytest.mark.parametrize("levels", [63, 64])
def test_nesting_is_allowed_to_the_limit(levels: int) -> None:
    called, _ = answers(request(params=json.loads("[" * (levels - 1) + "]" * (levels - 1))), Limits(depth=64))
    assert called == ["echo"]


@pytest.mark.parametrize("levels", [65, 500, 100_000])
def test_deeper_nesting_is_refused_whatever_its_depth(levels: int) -> None:
    text = '{"jsonrpc":"2.0","method":"echo","id":1,"params":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"
    called, answer = answers(text, Limits(depth=64))
    assert (called, code(answer)) == ([], -32600)


@pytest.mark.parametrize("text", ["[" * 100, '\\"[' * 100, "]" * 100 + "[" * 100])
def test_brackets_within_strings_are_not_levels(text: str) -> None:
    called, _ = answers(request(params=[text]), Limits(depth=4))
    assert called == ["echo"]


def test_a_string_that_does_not_end_takes_no_longer_than_its_length() -> None:
    text = '{"params":"' + '\\"' * 200_000 + "[" * 100
    assert code(answers(text)[1]) == -32700


@given(st.text() | st.binary())
def test_no_text_whatever_makes_it_raise(text: str | bytes) -> None:
    called, answer = answers(text)
    assert called == []
    assert isinstance(answer, dict)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_no_json_whatever_makes_it_raise(value: object) -> None:
    called, answer = answers(json.dumps(value))
    assert called == []
    assert isinstance(answer, dict | list)
