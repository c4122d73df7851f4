"""The server's side of JSON-RPC: one text in, the calls in it out; then their outcomes in, one text out.

    frame = table.read(text, limits)         -> frame.calls, in order
    frame.answer([outcome of each call])     -> the text to send; None where nobody waits for one

Nothing is run here. jsonrpcserver dispatches to methods that do no more than note the call (`_Entry`), so that one
synchronous pass sorts requests, notifications, batches and errors, and the caller is free to run the calls as it
likes. Three of the library's parameters keep that pass at about 9 us instead of 91:

    deserializer   decoding into the type of a request is the validation; what does not fit becomes a request for `_BAD`
    validator      none, for that reason
    methods        carry their own __signature__, because inspecting one costs 5 us, and one that takes anything: the
                   arguments are checked after the caller's right to the method, by params.Parameters

A batch is answered in one list. One bad item in it is answered by its own error; the others are carried out.
Notifications are carried out and never answered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from jsonrpcserver import JsonRpcError, Success, dispatch_to_response
from msgspec import UNSET, Raw
from oslash.either import Left

from middlewared.protocol import rpc

_BAD = ""
"""The method that every malformed item is made to ask for."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one text: bytes, levels of lists and objects, requests in a batch."""

    size: int = 1024 * 1024
    depth: int = 64
    batch: int = 100


class Call(msgspec.Struct, eq=False):
    """One call to carry out; its arguments are as they came, by place or by name. id None: a notification, or null."""

    method: str
    args: tuple[object, ...]
    kwargs: dict[str, object]
    id: rpc.Id = None


class Frame:
    """What one text asked for."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._batch = False
        self._replies: list[tuple[rpc.Id, Call | rpc.Error]] = []

    def answer(self, outcomes: Sequence[rpc.Outcome]) -> bytes | None:
        """The text of the reply. outcomes: one for each of `calls`, in that order."""
        if len(outcomes) == len(self._replies) == 1 and not self._batch:  # Nearly every text: one call, answered.
            return rpc.encode_reply(self._replies[0][0], outcomes[0])
        by_call = {id(call): outcome for call, outcome in zip(self.calls, outcomes, strict=True)}
        texts = [
            rpc.encode_reply(id_, by_call[id(what)] if isinstance(what, Call) else what) for id_, what in self._replies
        ]
        if not texts:
            return None
        return rpc.encode_batch(texts) if self._batch else texts[0]

    def _take(self, response: Any) -> None:
        """Keep what jsonrpcserver made: nothing, one response or a list; each either of the two kinds of `Either`."""
        if isinstance(response, list):
            self._batch = True
            for either in response:
                self._take_one(either)
        elif response is not None:
            self._take_one(response)

    def _take_one(self, either: Any) -> None:
        if isinstance(either, Left):
            self._replies.append((either._error.id, _error(either._error)))
        else:
            call = either._value.result
            call.id = either._value.id
            self._replies.append((call.id, call))


class Table:
    """The methods that can be called."""

    def __init__(self, methods: Iterable[str]) -> None:
        self._entries: dict[str, Any] = {name: _Entry(name) for name in methods}
        self._entries[_BAD] = _Bad()

    def read(self, text: bytes | str, limits: Limits) -> Frame:
        """Sort `text` out. Never raises: whatever is wrong is in the frame's answer."""
        frame = Frame()
        if len(text) > limits.size:
            fault = rpc.invalid_request(f"{len(text)} bytes, {limits.size} are allowed")
            frame._replies.append((None, fault))
            return frame
        response = dispatch_to_response(
            text,  # type: ignore[arg-type,unused-ignore]
            self._entries,
            context=frame,
            deserializer=_reader(limits),
            validator=_accept,
        )
        frame._take(response)
        return frame


class _Signature(inspect.Signature):
    """A signature that takes anything."""

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        return None


class _Entry:
    """What jsonrpcserver calls: it notes the call."""

    __signature__ = _Signature()

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, frame: Frame, /, *args: object, **kwargs: object) -> Any:
        call = Call(self._name, args, kwargs)
        frame.calls.append(call)
        return Success(call)


class _Bad:
    """The method of malformed items: it says what is wrong with them."""

    __signature__ = _Signature()

    def __call__(self, frame: Frame, /, why: str = "the method has no name") -> Any:
        error = rpc.invalid_request(why)
        raise JsonRpcError(error.code, error.message, error.data)


class _Unreadable(Exception):
    """The text is not JSON; the message says where."""


_request = msgspec.json.Decoder(rpc.Request)
_items = msgspec.json.Decoder(list[Raw])


def _accept(request: Any) -> Any:
    return request


def _reader(limits: Limits) -> Callable[[bytes | str], Any]:
    reader = _readers.get(limits)
    if reader is None:
        reader = _readers[limits] = lambda text: _read(text, limits)
    return reader


_readers: dict[Limits, Callable[[bytes | str], Any]] = {}


def _read(text: bytes | str, limits: Limits) -> Any:
    """One request or a list of them, as jsonrpcserver wants them. Raises _Unreadable."""
    try:
        if _depth_above(text, limits.depth):
            return _bad(f"lists and objects nested deeper than {limits.depth} levels", None)
        return _plain(_request.decode(text))
    except msgspec.ValidationError as e:
        return _read_odd(text, str(e), limits)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise _Unreadable(str(e)) from None


def _read_odd(text: bytes | str, why: str, limits: Limits) -> Any:
    """JSON that is not one good request: a batch, or a fault."""
    whole = msgspec.json.decode(text)
    if not isinstance(whole, list):
        return _bad(why, whole)
    if not whole:
        return _bad("an empty batch", None)
    if len(whole) > limits.batch:
        return _bad(f"a batch of {len(whole)} requests, {limits.batch} are allowed", None)
    requests = []
    for item, value in zip(_items.decode(text), whole, strict=True):
        try:
            requests.append(_plain(_request.decode(item)))
        except msgspec.ValidationError as e:
            requests.append(_bad(str(e), value))
    return requests


def _plain(request: rpc.Request) -> dict[str, object]:
    if request.id is UNSET:
        return {"method": request.method, "params": request.params}
    return {"method": request.method, "params": request.params, "id": request.id}


def _bad(why: str, item: object) -> dict[str, object]:
    """A request for the method that answers with `why`, under the item's own id where that can be read."""
    id_ = item.get("id") if isinstance(item, dict) else None
    known = isinstance(id_, str | int) and not isinstance(id_, bool)
    return {"method": _BAD, "params": [why], "id": id_ if known else None}


def _depth_above(text: bytes | str, depth: int) -> bool:
    """Whether `text` nests deeper. The number of brackets is a bound, in a microsecond; few texts need the walk."""
    if isinstance(text, str):
        text = text.encode()
    if text.count(b"[") + text.count(b"{") <= depth:
        return False
    level = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", text)):
        level += 1 if bracket in b"[{" else -1
        if level > depth:
            return True
    return False


# A string that does not end matches too, to the end of the text: so the search is linear whatever is sent.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def _error(error: Any) -> rpc.Error:
    """Our words for what jsonrpcserver found."""
    if error.code == rpc.UNKNOWN_METHOD:
        return rpc.Error(error.code, rpc.UNKNOWN_METHOD_MESSAGE)
    if error.code == rpc.PARSE_ERROR:
        return rpc.parse_error(str(error.data))
    data = error.data if isinstance(error.data, rpc.Detail) else rpc.detail(22, str(error.data))
    return rpc.Error(error.code, error.message, data)
