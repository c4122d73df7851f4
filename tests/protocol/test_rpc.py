from __future__ import annotations

import errno
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel.errors import (
    CallFailed,
    ConfigBehind,
    MiddlewareError,
    NoRole,
    NotActive,
    NotAuthenticated,
    NotAuthorized,
    OutcomeUnknown,
    PortFailed,
    Refused,
    TooManyCalls,
    UnknownMethod,
)
from middlewared.protocol import rpc

DATA_MEMBERS = {"error", "errname", "reason", "trace", "extra"}


def wire(error: rpc.Error) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(rpc.encode_reply("1", error))["error"]
    return told


@pytest.mark.parametrize(
    ("raised", "code", "number", "name"),
    [
        (Refused(("a.b", "is wrong")), -32602, 22, "EINVAL"),
        (NotAuthenticated(), -32001, 207, "ENOTAUTHENTICATED"),
        (NotAuthorized(), -32001, 13, "EACCES"),
        (NotActive("B", ["http://a"]), -32001, 30, "EROFS"),
        (NoRole("starting"), -32001, 16, "EBUSY"),
        (ConfigBehind("seq 4 is missing"), -32001, 210, "EHAUNAVAILABLE"),
        (OutcomeUnknown("abc"), -32001, 110, "ETIMEDOUT"),
        (PortFailed("set the host name", "no permission"), -32001, 5, "EIO"),
        (TooManyCalls("20 calls"), -32000, 16, "EBUSY"),
    ],
)
def test_every_error_has_its_number_and_all_five_members_of_data(
    raised: MiddlewareError, code: int, number: int, name: str
) -> None:
    error = wire(rpc.error_of(raised))
    assert error["code"] == code
    assert set(error["data"]) == DATA_MEMBERS
    assert (error["data"]["error"], error["data"]["errname"]) == (number, name)


def test_an_unknown_method_is_told_in_the_words_that_clients_compare() -> None:
    assert wire(rpc.error_of(UnknownMethod("x"))) == {"code": -32601, "message": "Method does not exist"}


def test_not_being_logged_in_is_told_in_the_words_that_clients_know() -> None:
    assert wire(rpc.error_of(NotAuthenticated()))["data"]["reason"] == "Not authenticated"


def test_every_fault_of_the_input_becomes_a_triple() -> None:
    raised = Refused(("u.domain", "has a space"), ("u.foo", "there is no such field", errno.ENOENT))
    data = wire(rpc.error_of(raised))["data"]
    assert data["extra"] == [["u.domain", "has a space", 22], ["u.foo", "there is no such field", 2]]
    assert data["reason"] == "[EINVAL] u.domain: has a space\n[ENOENT] u.foo: there is no such field"


@pytest.mark.parametrize(
    "raised",
    [
        Refused(("a.b", "is wrong"), ("c", "too", 17)),
        NotAuthenticated(),
        NotActive("B", ["http://a", "http://b"]),
        OutcomeUnknown("abc"),
        CallFailed(errno.EEXIST, "there is one", {"id": 4}),
        CallFailed(errno.EIO, "it broke"),
        TooManyCalls("20 calls"),
        UnknownMethod("Method does not exist"),
    ],
)
def test_a_client_raises_what_the_server_raised(raised: MiddlewareError) -> None:
    reply = rpc.decode_incoming(rpc.encode_reply("1", rpc.error_of(raised)))
    assert isinstance(reply, rpc.Reply)
    assert reply.error is not None
    there = rpc.exception_of(reply.error)
    assert type(there) is type(raised)
    assert str(there) == str(raised)
    assert {**vars(there)} == {**vars(raised)}


def test_an_error_of_another_server_without_data_is_still_an_error() -> None:
    reply = rpc.decode_incoming('{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Invalid params"}}')
    assert isinstance(reply, rpc.Reply)
    assert reply.error is not None
    assert str(rpc.exception_of(reply.error)) == "Invalid params"


def test_meta_stands_beside_the_result_and_only_when_there_is_one() -> None:
    with_meta = json.loads(rpc.encode_reply(1, rpc.Success(None, rpc.Meta(5, 2, "pair"))))
    assert with_meta == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": None,
        "meta": {"seq": 5, "term": 2, "durability": "pair"},
    }
    assert "meta" not in json.loads(rpc.encode_reply(1, rpc.Success("x")))


def test_a_result_that_is_not_json_becomes_an_internal_error() -> None:
    assert json.loads(rpc.encode_reply("7", rpc.Success(object())))["error"]["code"] == -32603


@given(st.text(), st.lists(st.integers(-(2**53), 2**53) | st.text() | st.none()))
def test_what_a_client_sends_the_server_reads(method: str, params: list[object]) -> None:
    request = msgspec.json.decode(rpc.encode_request("i", method, params), type=rpc.Request)
    assert (request.method, request.params, request.id) == (method, params, "i")


def test_a_text_that_is_neither_reply_nor_notification_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        rpc.decode_incoming(b'{"jsonrpc": "2.0"}')


def test_an_error_number_without_a_name_is_shown_as_a_number() -> None:
    assert rpc.errname(4711) == "E4711"
