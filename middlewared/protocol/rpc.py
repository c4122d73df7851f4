"""JSON-RPC 2.0: the texts that go over the wire, for both sides, and the only place that knows its error numbers.

    request       {"jsonrpc": "2.0", "method": ..., "params": [...] | {...}, "id": ...}     without id: a notification
    reply         {"jsonrpc": "2.0", "result": ..., "id": ...}      and "meta": {seq, term, durability} where asked for
    error         {"jsonrpc": "2.0", "error": {"code": ..., "message": ..., "data": ...}, "id": ...}
    notice        {"jsonrpc": "2.0", "method": "collection_update" | "notify_unsubscribed", "params": {...}}

Error numbers, and the errors of this product that become them:

    -32700  the text is not JSON              -32601  UnknownMethod: "Method does not exist"
    -32600  it is JSON, but no request        -32602  Refused: data.extra = [[field, message, errno], ...]
    -32603  a fault of this program           -32001  CallFailed and all others: data.error = errno
    -32000  TooManyCalls

Clients match the message of -32601 letter by letter, fall over a -32602 or -32001 without the five members of `data`,
and take any other number for success. So there are no others, and both always carry all five.

Not handled: the `$date` family of values; results are plain JSON.
Source: https://www.jsonrpc.org/specification
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from middlewared.kernel.errors import (
    EHAUNAVAILABLE,
    ENOTAUTHENTICATED,
    CallFailed,
    MiddlewareError,
    NotActive,
    NotAuthenticated,
    OutcomeUnknown,
    Problem,
    Refused,
    TooManyCalls,
    UnknownMethod,
)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
TOO_MANY_CALLS = -32000
CALL_FAILED = -32001

UNKNOWN_METHOD_MESSAGE = "Method does not exist"

_NAMES = {
    201: "ENOMETHOD",
    204: "EREMOTENODEERROR",
    205: "EDATASETISLOCKED",
    ENOTAUTHENTICATED: "ENOTAUTHENTICATED",
    209: "EREBOOTREQUIRED",
    EHAUNAVAILABLE: "EHAUNAVAILABLE",
}

Id: TypeAlias = int | str | None


class Detail(msgspec.Struct, frozen=True):
    """The `data` of an error. error: errno. extra: triples for -32602, free for the rest. trace: always null."""

    error: int
    errname: str
    reason: str
    trace: object = None
    extra: object = None


class Error(msgspec.Struct, frozen=True):
    """The `error` of a reply."""

    code: int
    message: str
    data: Detail | UnsetType = UNSET


class Meta(msgspec.Struct, frozen=True):
    """Where in the log a write stands, and on how many controllers: `pair` or `single`."""

    seq: int
    term: int
    durability: str


class Success(msgspec.Struct, frozen=True):
    """What a call gave."""

    result: object
    meta: Meta | UnsetType = UNSET


Outcome: TypeAlias = Success | Error


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request, as read. id UNSET: a notification."""

    jsonrpc: Literal["2.0"]
    method: str
    params: list[object] | dict[str, object] = msgspec.field(default_factory=list)
    id: int | str | UnsetType | None = UNSET


class Reply(msgspec.Struct, frozen=True):
    """One reply, as a client reads it: `error` or `result`."""

    id: Id
    result: object = None
    error: Error | None = None
    meta: Meta | None = None


class Notice(msgspec.Struct, frozen=True):
    """A message that nobody asked for by a call: a change in a collection, or the end of a subscription."""

    method: str
    params: dict[str, object]


class _SentReply(msgspec.Struct):
    id: Id
    result: object
    meta: Meta | UnsetType = UNSET
    jsonrpc: Literal["2.0"] = "2.0"


class _SentError(msgspec.Struct):
    id: Id
    error: Error
    jsonrpc: Literal["2.0"] = "2.0"


class _Incoming(msgspec.Struct):
    """Anything that a server may send; which members are there tells what it is."""

    id: int | str | UnsetType | None = UNSET
    result: object = None
    error: Error | None = None
    meta: Meta | None = None
    method: str | None = None
    params: dict[str, object] = msgspec.field(default_factory=dict)


_encoder = msgspec.json.Encoder()
_incoming = msgspec.json.Decoder(_Incoming)


def encode_request(id_: str, method: str, params: Sequence[object] | Mapping[str, object]) -> bytes:
    """The text of one call."""
    return _encoder.encode({"jsonrpc": "2.0", "method": method, "id": id_, "params": params})


def encode_reply(id_: Id, outcome: Outcome) -> bytes:
    """The text of one reply. A result that is not JSON becomes an error -32603."""
    if isinstance(outcome, Error):
        return _encoder.encode(_SentError(id_, outcome))
    try:
        return _encoder.encode(_SentReply(id_, outcome.result, outcome.meta))
    except (TypeError, ValueError, RecursionError) as e:
        return _encoder.encode(_SentError(id_, internal_error(f"The result cannot be written as JSON: {e}")))


def encode_batch(replies: Sequence[bytes]) -> bytes:
    """The text of the replies to a batch."""
    return b"[" + b",".join(replies) + b"]"


def encode_notice(method: str, params: Mapping[str, object]) -> bytes:
    """The text of a notification to a client."""
    return _encoder.encode({"jsonrpc": "2.0", "method": method, "params": params})


def addressed(notice: bytes, subscription: str) -> bytes:
    """The same notification for one subscription, whose id is added to its params. They are encoded last."""
    return b'%b,"subscription":%b}}' % (notice[:-2], _encoder.encode(subscription))


def decode_incoming(text: bytes | str) -> Reply | Notice:
    """What a server sent. Raises msgspec.DecodeError when it is neither a reply nor a notification."""
    message = _incoming.decode(text)
    if message.method is not None:
        return Notice(message.method, message.params)
    if message.id is UNSET:
        raise msgspec.ValidationError("neither a reply nor a notification")
    return Reply(message.id, message.result, message.error, message.meta)


def errname(number: int) -> str:
    """The name of an errno, those of this product included."""
    return _NAMES.get(number) or errno.errorcode.get(number, f"E{number}")


def detail(number: int, reason: str, extra: object = None) -> Detail:
    """The `data` of an error."""
    return Detail(number, errname(number), reason, None, extra)


def parse_error(why: str) -> Error:
    """The text is not JSON."""
    return Error(PARSE_ERROR, f"Parse error: {why}", detail(errno.EINVAL, why))


def invalid_request(why: str) -> Error:
    """It is JSON, but no request, or one beyond a limit."""
    return Error(INVALID_REQUEST, f"Invalid Request: {why}", detail(errno.EINVAL, why))


def internal_error(why: str) -> Error:
    """A fault of this program."""
    return Error(INTERNAL_ERROR, f"Internal error: {why}", detail(errno.EFAULT, why))


def error_of(exception: MiddlewareError) -> Error:
    """What the client is told of an error that this product raised."""
    match exception:
        case Refused():
            lines = "\n".join(f"[{errname(n)}] {field}: {message}" for field, message, n in exception.problems)
            return Error(INVALID_PARAMS, "Invalid params", detail(errno.EINVAL, lines, exception.problems))
        case UnknownMethod():
            return Error(UNKNOWN_METHOD, UNKNOWN_METHOD_MESSAGE)
        case TooManyCalls():
            return Error(TOO_MANY_CALLS, str(exception), detail(errno.EBUSY, str(exception)))
        case CallFailed():
            return Error(CALL_FAILED, "Method call error", detail(exception.errno, exception.reason, exception.extra))
        case _:
            return Error(CALL_FAILED, "Method call error", detail(errno.EIO, str(exception)))


def exception_of(error: Error) -> MiddlewareError:
    """The inverse of `error_of`, for a client: what to raise for an error that came over the wire."""
    data = error.data if isinstance(error.data, Detail) else None
    if error.code == UNKNOWN_METHOD:
        return UnknownMethod(error.message)
    if error.code == TOO_MANY_CALLS:
        return TooManyCalls(error.message)
    if data is None or error.code not in (INVALID_PARAMS, CALL_FAILED):
        return CallFailed(errno.EPROTO, error.message)
    if error.code == INVALID_PARAMS:
        return Refused(*_problems(data))
    if data.error == ENOTAUTHENTICATED:
        return NotAuthenticated()
    extra = data.extra if isinstance(data.extra, Mapping | list) else None
    if isinstance(extra, Mapping):
        if data.error == errno.EROFS and isinstance(extra.get("active_urls"), list):
            return NotActive(str(extra.get("node")), extra["active_urls"])
        if data.error == errno.ETIMEDOUT and isinstance(extra.get("request_id"), str):
            return OutcomeUnknown(extra["request_id"])
    return CallFailed(data.error, data.reason, extra)


def _problems(data: Detail) -> list[Problem]:
    try:
        return msgspec.convert(data.extra, list[Problem])
    except msgspec.ValidationError:
        return [("", data.reason, data.error)]
