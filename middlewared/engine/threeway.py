"""What a tail in quarantine would change: a three-way comparison by the fold of its events. Pure.

Three states of every noun are kept side by side: as it was where the tail left the log, as the tail makes it, and as it
would be if the tail were asked for again, now: each event becomes a command, decided by the noun's own rules against
what is now. What cannot be decided changes nothing there.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from middlewared.engine.registry import Registry
from middlewared.kernel.errors import CallFailed, MiddlewareError
from middlewared.kernel.event import Position, Record, UnknownKind, follows
from middlewared.plugin import Command, Difference, Noun, Row

MASK = "********"

Key = tuple[object, ...]


class ThreeWay:
    """plugin.TailFold. before: the states at `at`, where the tail begins; now: the states of this moment."""

    def __init__(self, registry: Registry, before: Mapping[str, Any], now: Mapping[str, Any], at: Position) -> None:
        self._registry = registry
        self._before = dict(before)
        self._tail = dict(before)
        self._now = dict(now)
        self._again = dict(now)
        self._at = at
        self.without_command = 0

    def take(self, record: Record) -> Command | None:
        """The command that asks for what the record's event said; None where there is none.

        Raises CallFailed when it does not follow the one before.
        """
        why = follows(record, self._at)
        if why is not None:
            raise CallFailed(errno.EIO, f"The tail is damaged at seq {record.seq}: {why}")
        self._at = record.position
        try:
            event = self._registry.catalogue.open(record)
        except (UnknownKind, msgspec.ValidationError):
            self.without_command += 1
            return None
        name = self._registry.noun_of.get(record.kind)
        if name is None:
            return None  # the engine's own, of a term that is over
        noun, state = self._registry.nouns[name], self._tail[name]
        self._tail[name] = noun.evolve(state, event)
        command = noun.command_for(state, event) if noun.command_for is not None else None
        if command is None:
            self.without_command += 1
        else:
            self._ask(noun, command)
        return command

    def _ask(self, noun: Noun[Any], command: Command) -> None:
        try:
            events = noun.decide(self._again[noun.name], command)
        except MiddlewareError:
            return
        for event in events:
            self._again[noun.name] = noun.evolve(self._again[noun.name], event)

    def differences(self) -> list[Difference]:
        """What the records that were taken so far make different, by noun, row and field."""
        return [difference for name in sorted(self._registry.nouns) for difference in self._of(name)]

    def _of(self, name: str) -> Iterator[Difference]:
        noun = self._registry.nouns[name]
        states = (self._before[name], self._tail[name], self._now[name], self._again[name])
        if states[0] == states[1] and states[2] == states[3]:
            return
        tables = [_by_key(noun, noun.project(state)) for state in states]
        for key in sorted({key for table in tables for key in table}, key=repr):
            yield from _in_row(noun, key, [table.get(key) for table in tables])


def _in_row(noun: Noun[Any], key: Key, rows: Sequence[Row | None]) -> Iterator[Difference]:
    keys = [column.name for column in noun.table.primary_key.columns]
    # A row of keys alone still differs by being there.
    columns = [column for column in noun.table.columns if column.name not in keys] or list(noun.table.columns)
    for column in columns:
        before, tail, now, again = (row[column.name] if row is not None else None for row in rows)
        if before == tail and now == again:
            continue
        shown = [_shown(value, secret="secret" in column.info) for value in (before, tail, now, again)]
        yield Difference(
            noun=noun.name,
            table=str(noun.table.name),
            key=dict(zip(map(str, keys), key, strict=True)),
            field=str(column.name),
            before=shown[0],
            quarantined=shown[1],
            now=shown[2],
            again=shown[3],
            conflict=now not in (before, tail),
        )


def _shown(value: object, *, secret: bool) -> object:
    return MASK if secret and value is not None else value


def _by_key(noun: Noun[Any], rows: Sequence[Row]) -> dict[Key, Row]:
    keys = [column.name for column in noun.table.primary_key.columns]
    return {tuple(row[key] for key in keys): row for row in rows}
