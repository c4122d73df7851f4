"""From the `params` of a request to the arguments of a method: the types are checked and every fault is found.

The usual way is one `msgspec.convert` for each argument, which stops at the first fault. Only when it fails is the
input walked again, field by field, to say all that is wrong at once, as triples
`("network_configuration_update.domain", message, errno)`.

A field is named by its path: the parameter (or the name under which the method wants it reported), the fields of the
object, the places in a list. A field that is not known is reported under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import UnsetType

from middlewared.kernel.errors import Problem, Refused
from middlewared.kernel.hidden import hidden

_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "a list",
}
_EXPECTED = re.compile(r"^Expected (.+?)(?:, got (.+))?$")
_NAMED = re.compile(r"`([a-z |]+)`")


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a method. attribute: the name under which its faults are reported."""

    name: str
    type: Any
    required: bool
    attribute: str


class Parameters:
    """All parameters of one method, in order."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.all = tuple(parameters)
        self._by_name = {p.name: p for p in self.all}
        self._required = frozenset(p.name for p in self.all if p.required)
        self._types = tuple(p.type for p in self.all)

    def without_secrets(self, args: Sequence[object], kwargs: Mapping[str, object]) -> list[object]:
        """The arguments of a call in order, as they may be shown: secrets, told by their names, are hidden."""
        given = {**dict(zip((p.name for p in self.all), args, strict=False)), **kwargs}
        return [hidden(name, msgspec.to_builtins(value)) for name, value in given.items()]

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[list[object], dict[str, object]]:
        """The arguments with which to call the method; what was left out is left to its defaults.

        Raises Refused with every fault found.
        """
        if not args and not kwargs and not self._required:
            return [], {}
        if self._fit(args, kwargs):
            try:
                return (
                    [msgspec.convert(value, t) for value, t in zip(args, self._types, strict=False)],
                    {name: msgspec.convert(value, self._by_name[name].type) for name, value in kwargs.items()},
                )
            except msgspec.ValidationError:
                pass  # Found again below, with all the others.
        raise Refused(*self._problems(args, kwargs))

    def _fit(self, args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
        if kwargs:
            return not args and self._required <= kwargs.keys() <= self._by_name.keys()
        return len(self._required) <= len(args) <= len(self.all)

    def _problems(self, args: Sequence[object], kwargs: Mapping[str, object]) -> list[Problem]:
        found: list[Problem] = []
        given = {**{p.name: value for p, value in zip(self.all, args, strict=False)}, **kwargs}
        if len(args) > len(self.all):
            found += _problem("params", f"{len(args)} parameters were given, the method takes {len(self.all)}")
        for name in given.keys() - self._by_name.keys():
            found += _problem(name, "there is no such parameter")
        for parameter in self.all:
            if parameter.name in given:
                found += problems(given[parameter.name], parameter.type, parameter.attribute)
            elif parameter.required:
                found += _problem(parameter.attribute, "is required")
        return found


def problems(value: object, type_: Any, path: str) -> list[Problem]:
    """Everything that keeps `value` (JSON, decoded) from being a `type_`; `path` is its own name."""
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as e:
        return _inside(value, type_, path) or _problem(path, sentence(str(e), type_))
    return []


def _inside(value: object, type_: Any, path: str) -> list[Problem]:
    """The faults of the parts of `value`; empty where the fault is of the whole."""
    if isinstance(value, dict):
        struct = _struct_in(type_)
        if struct is not None:
            return _fields(value, struct, path)
        values = get_args(type_)[1] if get_origin(type_) is dict else None
        return [p for k, v in value.items() for p in problems(v, values, f"{path}.{k}")] if values else []
    if isinstance(value, list) and get_origin(type_) in (list, tuple, set, frozenset):
        item, *rest = get_args(type_)
        if rest in ([], [...]):
            return [p for i, v in enumerate(value) for p in problems(v, item, f"{path}.{i}")]
    return []


def _fields(value: Mapping[str, object], struct: type[msgspec.Struct], path: str) -> list[Problem]:
    found: list[Problem] = []
    fields = msgspec.structs.fields(struct)
    known = {f.encode_name for f in fields} | {struct.__struct_config__.tag_field}
    for name in value:
        if name not in known:
            found += _problem(f"{path}.{name}", f"there is no such field{_nearest(name, known)}")
    for field in fields:
        if field.encode_name in value:
            found += problems(value[field.encode_name], field.type, f"{path}.{field.encode_name}")
        elif field.required:
            found += _problem(f"{path}.{field.encode_name}", "is required")
    return found


def _nearest(name: str, known: Collection[str | None]) -> str:
    """What a field that does not exist was meant to be, where that is easily told."""
    from difflib import get_close_matches  # only who mistypes waits for it

    near = get_close_matches(name, sorted(filter(None, known)), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _struct_in(type_: Any) -> type[msgspec.Struct] | None:
    """The one Struct that an object may become; None where there is none, or a choice."""
    candidates = [t for t in (type_, *get_args(type_)) if isinstance(t, type) and issubclass(t, msgspec.Struct)]
    return candidates[0] if len(candidates) == 1 else None


def sentence(message: str, type_: Any) -> str:
    """What msgspec says of one value, in the words of somebody who types JSON.

    >>> sentence("Expected `int`, got `str`", int)
    'must be a whole number, not a string'
    """
    message = message.split(" - at `")[0]
    choices = _choices(type_)
    if message.startswith("Invalid enum value") and choices:
        return f"must be one of {', '.join(map(str, choices))}"
    match = _EXPECTED.match(message)
    if match is None:
        return message
    wanted, got = match.groups()
    return f"must be {_plain(wanted)}" + (f", not {_plain(got)}" if got else "")


def _choices(type_: Any) -> list[object]:
    if get_origin(type_) is Literal:
        return list(get_args(type_))
    return [c for t in get_args(type_) if t is not UnsetType for c in _choices(t)]


def _plain(types: str) -> str:
    return _NAMED.sub(lambda m: " or ".join(_WORDS.get(t, t) for t in m[1].split(" | ")), types)


def _problem(path: str, message: str) -> list[Problem]:
    return list(Refused((path, message)).problems)
