"""The format in which the log is written: the one noun that belongs to no plugin.

A log says itself in which format it goes on: every record after `log.format.raised` may use what that format brought
(docs/log.md has the list), and none before it does. So both controllers, and whoever reads the log in ten years, know
it from the same bytes. A log without that event is of the first format, which the first build wrote.

A build that cannot read a format must not apply what is written in it, nor continue it: folding a raise to a format
that is not known here ends in UnknownKind, like any other event that cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from sqlalchemy import Column, Integer, MetaData, Table

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import FIRST_FORMAT, LOG_FORMAT, Event, UnknownKind
from middlewared.plugin import Command, Noun, Row


class LogFormat(msgspec.Struct, frozen=True, kw_only=True):
    log_format: int = FIRST_FORMAT


class Raise(Command, frozen=True, kw_only=True):
    """Go on in this format from here. Once it is committed there is no way back to a build that cannot read it."""

    noun: ClassVar[str] = "log.format"
    log_format: int


class Raised(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "log.format.raised"
    log_format: int


def decide(state: LogFormat, command: Raise) -> Sequence[Event]:
    """Raises Refused for a format that this build does not write. No event where the log is that far."""
    if command.log_format > LOG_FORMAT:
        raise Refused(("log_format", f"{command.log_format} is not known to this build, which writes {LOG_FORMAT}"))
    return [Raised(log_format=command.log_format)] if command.log_format > state.log_format else []


def evolve(_: LogFormat, event: Raised) -> LogFormat:
    if event.log_format > LOG_FORMAT:
        raise UnknownKind(f"log format {event.log_format} is not known to this build, which reads up to {LOG_FORMAT}")
    return LogFormat(log_format=event.log_format)


table = Table(
    "log_format",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("log_format", Integer, nullable=False),
)


def project(state: LogFormat) -> list[Row]:
    """No row for the first format: so a file that was made before there was this table shows what it should."""
    return [{"id": 1, "log_format": state.log_format}] if state.log_format > FIRST_FORMAT else []


def restore(rows: Sequence[Row]) -> LogFormat:
    return msgspec.convert({"log_format": rows[0]["log_format"]}, LogFormat) if rows else LogFormat()


NOUN = Noun(
    name="log.format",
    initial=LogFormat(),
    events=(Raised,),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
)
