"""`interface`: the addresses of each network interface, its virtual addresses, and what failover makes of it.

Whoever changes the network over the network may cut the branch that he sits on. So an edit is only kept; `commit` puts
all edits on trial, on both controllers; `checkin` keeps them, and without it in time everything is as it was. Each step
is an event: a controller that crashes, or is taken over from, in the middle of a trial leaves it to its successor.

    saved      checked in: what was in force before any trial
    trial      committed and in force; until when, see `left_s`
    pending    edited, not committed; in force nowhere

An interface that nobody configured is in none of them and is left alone. A name means the same on both controllers.
Source: the flow of the field's clients (commit, checkin, rollback); that the trial survives a failover is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import JSON, Boolean, Column, Integer, MetaData, String, Table

from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Event
from middlewared.kernel.facts import FailoverGroup, Node, Vip
from middlewared.plugin import Command, Noun, Row

from . import interface_rules as rules
from .interface_rules import Address, Interface, Virtual

LOG_FORMAT = (3,)
"""The first log format in which the events of this noun may be written: an older build could not apply them."""
TRIAL_MIN_S, TRIAL_MAX_S = 1, 3600

Named: TypeAlias = tuple[Interface, ...]
"""In the order of their names."""


# State


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """timeout_s: without a checkin for so long it is rolled back; None: never. The rest: when and where it began.

    uptime_ms: CLOCK_BOOTTIME of the controller with this boot id, wall_ns: its wall clock.
    """

    id: str
    interfaces: Named
    timeout_s: int | None
    boot_id: str
    uptime_ms: int
    wall_ns: int


class Interfaces(msgspec.Struct, frozen=True, kw_only=True):
    saved: Named = ()
    trial: Trial | None = None
    pending: Named | None = None

    @property
    def in_force(self) -> Named:
        """What both controllers' interfaces shall be."""
        return self.saved if self.trial is None else self.trial.interfaces

    @property
    def edited(self) -> Named:
        """What they would be after a commit."""
        return self.in_force if self.pending is None else self.pending

    @property
    def is_changing(self) -> bool:
        return self.trial is not None or self.pending is not None

    @property
    def vips(self) -> tuple[Vip, ...]:
        """Of what is in force. A VIP is one address to its neighbours; `prefix` says which network it answers."""
        return tuple(vip for interface in self.in_force for vip in interface.vips)

    @property
    def groups(self) -> tuple[FailoverGroup, ...]:
        """The critical interfaces that are in force, by group."""
        members: dict[int, list[str]] = {}
        for interface in self.in_force:
            if interface.critical and interface.group is not None:
                members.setdefault(interface.group, []).append(interface.name)
        return tuple(FailoverGroup(number=n, interfaces=tuple(names)) for n, names in sorted(members.items()))


def left_s(trial: Trial, *, boot_id: str, uptime_s: float, wall_ns: int) -> float | None:
    """How long until the trial is rolled back; None: never. Asked with the clocks of the controller that asks.

    On the controller where it began by CLOCK_BOOTTIME, exactly. Elsewhere by wall clocks, and since those may differ by
    anything: between at once and the whole time once more, counted from `wall_ns` on.
    """
    if trial.timeout_s is None:
        return None
    same = boot_id == trial.boot_id
    gone_s = uptime_s - trial.uptime_ms / 1000 if same else (wall_ns - trial.wall_ns) / 1e9
    return trial.timeout_s - min(max(gone_s, 0.0), trial.timeout_s)


# Commands


class Update(Command, frozen=True, kw_only=True):
    """Edit an interface. What is left out stays. The fields have the names that clients know.

    aliases: the addresses of controller A; failover_aliases: of B, place by place; failover_virtual_aliases: of
    whichever is active. failover_vhid: of the first virtual address; the others get free ones, where they name none.
    paired: there are two controllers. foreign: VHIDs that other routers on this interface's network have.
    elsewhere: virtual addresses that are configured by other means (network.vip).
    """

    noun: ClassVar[str] = "interface"
    name: str
    aliases: tuple[Address, ...] | UnsetType = UNSET
    failover_aliases: tuple[Address, ...] | UnsetType = UNSET
    failover_virtual_aliases: tuple[Virtual, ...] | UnsetType = UNSET
    failover_vhid: int | UnsetType | None = UNSET
    failover_critical: bool | UnsetType = UNSET
    failover_group: int | UnsetType | None = UNSET
    description: str | UnsetType = UNSET
    paired: bool = False
    foreign: tuple[int, ...] = ()
    elsewhere: tuple[Vip, ...] = ()


class Delete(Command, frozen=True, kw_only=True):
    """Have no configuration of an interface: its configured addresses go with the next commit."""

    noun: ClassVar[str] = "interface"
    name: str


class Commit(Command, frozen=True, kw_only=True):
    """Put the edits on trial. timeout_s None: keep them at once. The rest: see Trial."""

    noun: ClassVar[str] = "interface"
    id: str
    timeout_s: int | None
    boot_id: str
    uptime_ms: int
    wall_ns: int


class CheckIn(Command, frozen=True, kw_only=True):
    """Keep what is on trial."""

    noun: ClassVar[str] = "interface"


class CancelRollback(Command, frozen=True, kw_only=True):
    """Leave the trial without an end: until a checkin or a rollback."""

    noun: ClassVar[str] = "interface"


class RollBack(Command, frozen=True, kw_only=True):
    """Undo trial and edits. trial: only this one, because its time is over."""

    noun: ClassVar[str] = "interface"
    trial: str | None = None


# Events


class Edited(Event, frozen=True, kw_only=True):
    """One interface, whole, as it shall be after a commit."""

    kind: ClassVar[str] = "interface.edited"
    since_format: ClassVar[tuple[int, ...]] = LOG_FORMAT
    interface: Interface


class Deleted(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "interface.deleted"
    since_format: ClassVar[tuple[int, ...]] = LOG_FORMAT
    name: str


class Committed(Event, frozen=True, kw_only=True):
    """The edits are in force."""

    kind: ClassVar[str] = "interface.committed"
    since_format: ClassVar[tuple[int, ...]] = LOG_FORMAT
    id: str
    timeout_s: int | None
    boot_id: str
    uptime_ms: int
    wall_ns: int


class CheckedIn(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "interface.checked_in"
    since_format: ClassVar[tuple[int, ...]] = LOG_FORMAT


class RollbackCancelled(Event, frozen=True, kw_only=True):
    kind: ClassVar[str] = "interface.rollback_cancelled"
    since_format: ClassVar[tuple[int, ...]] = LOG_FORMAT


class RolledBack(Event, frozen=True, kw_only=True):
    """trial: the one that was undone, "" where only edits were."""

    kind: ClassVar[str] = "interface.rolled_back"
    since_format: ClassVar[tuple[int, ...]] = LOG_FORMAT
    trial: str


AnyEvent: TypeAlias = Edited | Deleted | Committed | CheckedIn | RollbackCancelled | RolledBack
AnyCommand: TypeAlias = Update | Delete | Commit | CheckIn | CancelRollback | RollBack


# Rules


def decide(state: Interfaces, command: AnyCommand) -> Sequence[Event]:
    """Raises Refused with every field that is wrong. No event where nothing changes."""
    trial = state.trial
    match command:
        case Update():
            return _edited(state, command)
        case Delete(name=name):
            return [Deleted(name=name)] if any(each.name == name for each in state.edited) else []
        case Commit():
            return _committed(state, command)
        case CheckIn():
            return [CheckedIn()] if trial is not None else []
        case CancelRollback():
            return [RollbackCancelled()] if trial is not None and trial.timeout_s is not None else []
        case RollBack(trial=only):
            if not state.is_changing or (only is not None and (trial is None or trial.id != only)):
                return []
            return [RolledBack(trial=trial.id if trial is not None else "")]


def _edited(state: Interfaces, command: Update) -> Sequence[Event]:
    before = next((each for each in state.edited if each.name == command.name), Interface(name=command.name))
    others = [each for each in state.edited if each.name != command.name]
    given = {name: value for name in rules.FIELDS if (value := getattr(command, name)) is not UNSET}
    # One that was ours before somebody else took it is an alert; an edit of anything else must still be possible.
    foreign = set(command.foreign) - {virtual.vhid for virtual in before.virtual_aliases}
    wanted = rules.merged(before, given, others, foreign, command.elsewhere)
    problems = list(rules.problems(wanted, others, foreign, command.elsewhere, paired=command.paired))
    if problems:
        raise Refused(*problems)
    return [Edited(interface=wanted)] if wanted != before else []


def _committed(state: Interfaces, command: Commit) -> Sequence[Event]:
    timeout_s = command.timeout_s
    if timeout_s is not None and not TRIAL_MIN_S <= timeout_s <= TRIAL_MAX_S:
        message = f"{timeout_s} is not a number of seconds from {TRIAL_MIN_S} to {TRIAL_MAX_S}"
        raise Refused(("checkin_timeout", message))
    if state.pending is None:
        return []
    fields = ("id", "timeout_s", "boot_id", "uptime_ms", "wall_ns")
    return [Committed(**{name: getattr(command, name) for name in fields})]


def evolve(state: Interfaces, event: AnyEvent) -> Interfaces:
    match event:
        case Edited(interface=interface):
            others = [each for each in state.edited if each.name != interface.name]
            pending = tuple(sorted([*others, interface], key=lambda each: each.name))
            return msgspec.structs.replace(state, pending=pending)
        case Deleted(name=name):
            return msgspec.structs.replace(state, pending=tuple(each for each in state.edited if each.name != name))
        case Committed(timeout_s=None):
            return Interfaces(saved=state.edited)
        case Committed():
            began = msgspec.structs.asdict(event)
            return Interfaces(saved=state.saved, trial=Trial(interfaces=state.edited, **began))
        case CheckedIn():
            return Interfaces(saved=state.in_force, pending=state.pending)
        case RollbackCancelled():
            assert state.trial is not None
            return msgspec.structs.replace(state, trial=msgspec.structs.replace(state.trial, timeout_s=None))
        case RolledBack():
            return Interfaces(saved=state.saved)


# Projection

table = Table(
    "network_interface",
    MetaData(),
    Column("stage", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("aliases", JSON, nullable=False),
    Column("failover_aliases", JSON, nullable=False),
    Column("virtual_aliases", JSON, nullable=False),
    Column("critical", Boolean, nullable=False),
    Column("failover_group", Integer, nullable=True),
    Column("description", String, nullable=False),
    Column("trial", JSON, nullable=False),
)
_STAGE = ""
"""The name in the row that says that a stage is there at all; its `trial` tells of the trial."""


def project(state: Interfaces) -> list[Row]:
    rows = [_row("saved", interface) for interface in state.saved]
    if state.trial is not None:
        told = msgspec.to_builtins(state.trial)
        del told["interfaces"]
        rows.append({**_row("trial", Interface(name=_STAGE)), "trial": told})
        rows += [_row("trial", interface) for interface in state.trial.interfaces]
    if state.pending is not None:
        rows.append(_row("pending", Interface(name=_STAGE)))
        rows += [_row("pending", interface) for interface in state.pending]
    return rows


def _row(stage: str, interface: Interface) -> Row:
    row = msgspec.to_builtins(interface)
    row["failover_group"] = row.pop("group")
    return {"stage": stage, "trial": {}, **row}


def restore(rows: Sequence[Row]) -> Interfaces:
    stages: dict[str, list[Interface]] = {}
    told: object = None
    for row in sorted(rows, key=lambda row: str(row["name"])):
        fields = {name: value for name, value in row.items() if name not in ("stage", "trial", "failover_group")}
        found = stages.setdefault(str(row["stage"]), [])
        if row["name"] == _STAGE:
            told = row["trial"] or told
        else:
            found.append(msgspec.convert({**fields, "group": row["failover_group"]}, Interface))
    trial = None
    if "trial" in stages and isinstance(told, dict):
        trial = msgspec.convert({**told, "interfaces": []}, Trial)
        trial = msgspec.structs.replace(trial, interfaces=tuple(stages["trial"]))
    return Interfaces(
        saved=tuple(stages.get("saved", ())),
        trial=trial,
        pending=tuple(stages["pending"]) if "pending" in stages else None,
    )


NOUN = Noun(
    name="interface",
    initial=Interfaces(),
    events=(Edited, Deleted, Committed, CheckedIn, RollbackCancelled, RolledBack),
    decide=decide,
    evolve=evolve,
    table=table,
    project=project,
    restore=restore,
)


def addresses_of(state: Interfaces, node: Node) -> dict[str, tuple[Address, ...]]:
    """What the interfaces of one controller shall have, by name."""
    return {each.name: each.aliases if node == "A" else each.failover_aliases for each in state.in_force}
