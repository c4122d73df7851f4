"""Filters and options of queries, in the form that clients of this API family send.

    [["state", "=", "RUNNING"], ["credentials.data.username", "!=", "root"]]     all of them must hold
    {"count": false, "get": false, "offset": 0, "limit": 0, "order_by": ["-id"]}

A path with dots goes into objects; what is not there is null. Values of different kinds are neither less nor more.
"""

from __future__ import annotations

import errno
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from middlewared.kernel.errors import CallFailed, Refused

Filters = list[list[Any]]
Row = Mapping[str, object]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """get: the first row, an error if there is none. count: how many. limit: 0 for all. order_by: "-name" falls.

    What clients send besides is ignored.
    """

    get: bool = False
    count: bool = False
    offset: int = 0
    limit: int = 0
    order_by: list[str] = []


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[object, object], bool]:
    def judge(value: object, wanted: object) -> bool:
        try:
            return compare(value, wanted)
        except TypeError:
            return False

    return judge


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": _compared(operator.gt),
    ">=": _compared(operator.ge),
    "<": _compared(operator.lt),
    "<=": _compared(operator.le),
    "in": _compared(lambda value, wanted: value in wanted),
    "nin": _compared(lambda value, wanted: value not in wanted),
    "^": _compared(str.startswith),
    "$": _compared(str.endswith),
    "~": _compared(lambda value, wanted: wanted in value),
}


def pick(rows: Sequence[Row], filters: Filters, options: Options) -> object:
    """The rows that pass, as the options want them. Raises Refused for a filter that is none, CallFailed for `get`."""
    tests = [_test(f"filters.{number}", wanted) for number, wanted in enumerate(filters)]
    found = [row for row in rows if all(test(row) for test in tests)]
    if options.count:
        return len(found)
    for name in reversed(options.order_by):
        found.sort(key=lambda row, name=name: _sortable(_at(row, name.lstrip("-"))), reverse=name.startswith("-"))  # type: ignore[misc]
    found = found[max(0, options.offset) :]
    if options.limit > 0:
        found = found[: options.limit]
    if not options.get:
        return found
    if not found:
        raise CallFailed(errno.ENOENT, "Nothing matches the filters")
    return found[0]


def _test(where: str, wanted: list[Any]) -> Callable[[Row], bool]:
    match wanted:
        case [str(name), str(sign), value] if sign in _OPERATORS:
            judge = _OPERATORS[sign]
            return lambda row: judge(_at(row, name), value)
        case [str(_), str(sign), _]:
            raise Refused((where, f"{sign} is none of {' '.join(_OPERATORS)}"))
    raise Refused((where, "must be [name, operator, value]"))


def _at(row: object, path: str) -> object:
    for part in path.split("."):
        row = row.get(part) if isinstance(row, Mapping) else None
    return row


def _sortable(value: object) -> tuple[str, Any]:
    if isinstance(value, bool | int | float):
        return ("number", value)
    return ("text", "" if value is None else str(value))
