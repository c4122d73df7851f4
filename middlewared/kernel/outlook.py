"""Whether failover is available and what it would do, as it is told to people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.facts import Node

Status: TypeAlias = Literal["SINGLE", "MASTER", "BACKUP", "ELECTING", "IMPORTING", "ERROR"]
Icon: TypeAlias = Literal["ENABLED", "DISABLED", "UNAVAILABLE", "ABSENT"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What one controller knows of itself and shows the other one, several times a second.

    halted, behind, blocked: why its log stands still, takes no configuration, or is applied no further.
    lost_links: why its clients do not reach it, None while no failover group is lost.
    carrier: of the interlink; None: not known. disks: serial numbers of the pools' disks that it sees; None: not known.
    pools: imported here, by guid. fault: why one of them cannot be written. failed: why a promotion failed here lately.
    held: it claims only when it is forced. flapping: by its count the term moved too often.
    changing: what it is about to become or to give up, None mostly.
    """

    node: Node
    version: str
    status: Status
    halted: str | None = None
    behind: str | None = None
    blocked: str | None = None
    voters_ok: int = 0
    voters: int = 0
    carrier: bool | None = None
    lost_links: str | None = None
    vips: Mapping[str, str] = {}
    disks: tuple[str, ...] | None = None
    pools: tuple[str, ...] = ()
    fault: str | None = None
    failed: str | None = None
    held: bool = False
    flapping: bool = False
    changing: str | None = None


class Shown(msgspec.Struct, frozen=True):
    """What a controller's fenced decided upon, as JSON, at a time of its own clock."""

    at: float
    view: str


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration wants of failover. vips: addresses; pools: guids."""

    disabled: bool
    vips: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller knows of the way to the other one.

    paired: there is another one. heard: by its heartbeats. up: the line is open. refused: why the other one closes it.
    apart: why their versions cannot read each other's log. blocked: why the other one applies nothing more, as it
    acknowledged it. both_in_sync: both logs hold all that was answered.
    """

    paired: bool
    heard: bool
    up: bool
    refused: str | None = None
    apart: str | None = None
    blocked: str | None = None
    both_in_sync: bool = True


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why failover is not available. node: of which controller; None: of both, or of what is between them.

    detail: what exactly, for programs. since: {"$date": ms since 1970, UTC}; None until somebody keeps it.
    """

    code: str
    text: str
    node: Node | None = None
    detail: Mapping[str, object] = {}
    since: Mapping[str, int] | None = None


class Permits(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done now, on the controller that answers; each is refused with a reason where it may not."""

    failover: bool
    force_takeover: bool
    edit_interfaces: bool
    export_last_pool: bool
    key_reset: bool
    login: bool
    write_config: bool
    sync_peer: bool


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    icon: Icon
    available: bool
    reasons: tuple[Reason, ...]
    permits: Permits


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that a decision rests on. known: False where its window has passed. age_s: since it was so, or seen."""

    name: str
    value: str | int | bool | None
    known: bool = True
    age_s: float | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a controller is what it is. when, serves: of the rule, see docs/failover.md. inputs_age_s: of the whole."""

    node: Node
    number: int
    rule: str
    verdict: str
    why: str
    when: str
    serves: tuple[str, ...]
    inputs: tuple[Input, ...]
    inputs_age_s: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that a fault would lead to. after_s: after the fault."""

    after_s: float
    node: Node
    number: int
    rule: str
    verdict: str
    why: str


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What would follow a fault. before, after: who owns; None: nobody. unowned_s: how long nobody would own.

    ends: which controllers would end themselves, because they lose their term with pools imported. peer_known: whether
    the other controller said what it sees; where it did not, it is taken to see what it should.
    """

    fault: str
    text: str
    before: Node | None
    after: Node | None
    unowned_s: float
    ends: tuple[Node, ...]
    peer_known: bool
    steps: tuple[Step, ...]
