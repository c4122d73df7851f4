"""The methods of `failover.voters`."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.facts import Node, SharedDisk, other
from middlewared.plugin import Call, ControllerFacts, Duty, DutyCall, PeerCall, command, peer, query

from . import voters

PEER_TIMEOUT_S = 2.0
_OVERWRITTEN = {"another pair": "slots of another pair", "unknown": "something that is no slot"}


class Voter(msgspec.Struct, frozen=True, kw_only=True):
    """One shared disk, as the controller that answers sees it.

    state: `voting`; while the voters are being changed also `joining` and `leaving`, which vote too; `not voting`.
    held_by, term: the reservation; null: free. keeps: where record and heartbeat are: `slots` on the disk, `register`.
    slots_of: whose slots are on it: nobody, us, another pair, unknown; "" where that was not looked at, or they cannot
    be read. error: why it does not answer, or its slots do not.
    """

    serial: str
    state: Literal["voting", "joining", "leaving", "not voting"]
    reachable: bool
    held_by: Node | None
    term: int
    keeps: str
    slots_of: str
    error: str


class SetOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """force: take a disk where another pair's slots lie, or something that is no slot; it is written over."""

    force: bool = False


@query("failover.voters.query", roles=("FAILOVER_READ",))
async def query_voters(call: Call) -> list[Voter]:
    """The shared disks: those that vote first, then the rest."""
    return [_shown(disk) for disk in call.controller.facts().shared_disks]


@command("failover.voters.set", roles=("FAILOVER_WRITE",))
async def set_voters(call: Call, disks: list[str], options: SetOptions = SetOptions()) -> list[Voter]:  # noqa: B008
    """Let these shared disks vote, 3 or 5, by serial.

    Until both controllers have taken the change up, the old ones vote as well; `failover.voters.query` shows it. To
    name the old ones meanwhile takes the change back, while the other controller is heard. Both must be in sync and see
    each disk that is new, and its slots: one without room for them does not vote, whatever is forced.
    """
    facts = call.controller.facts()
    now = tuple(disk.serial for disk in facts.shared_disks if disk.sets)
    change = voters.Change(number=facts.term << 16, old=now, new=tuple(disks))
    if not call.again:
        await _check(call, facts, disks, now, force=options.force)
    await call.execute(change)
    return [_shown(disk) for disk in call.controller.facts().shared_disks]


async def _check(call: Call, facts: ControllerFacts, disks: list[str], now: tuple[str, ...], *, force: bool) -> None:
    """Raises CallFailed where no change can be made now, Refused for a disk that cannot vote."""
    if facts.log_format < voters.LOG_FORMAT:
        raise CallFailed(errno.EOPNOTSUPP, "The log cannot say so yet: run upgrade.finalize on both controllers first")
    if not facts.paired or not facts.shared_disks:
        raise CallFailed(errno.EINVAL, "There are no shared disks of two controllers here")
    undoes = facts.voters_changing and set(disks) == {d.serial for d in facts.shared_disks if 0 in d.sets}
    number = call.state(voters.NOUN).number
    if undoes:
        _check_not_ahead(facts, number)
        return
    _check_pair(facts, number)
    answer = await call.controller.ask_peer("failover.voters.here", timeout_s=PEER_TIMEOUT_S)
    views = {call.node: facts.shared_disks, other(call.node): msgspec.convert(answer, list[SharedDisk])}
    _check_new([disk for disk in disks if disk not in now], disks, views, force=force)


def _check_not_ahead(facts: ControllerFacts, number: int) -> None:
    """Who has left the old ones behind must not be left alone with the new ones."""
    if facts.peer_voting is None or facts.peer_voting > number:
        raise CallFailed(
            errno.EAGAIN, "A change is taken back only while the other controller is heard not to be ahead"
        )


def _check_pair(facts: ControllerFacts, number: int) -> None:
    if len(facts.in_sync) < 2 or not facts.peer_connected:
        raise CallFailed(errno.EAGAIN, "The voters are changed only while both controllers are in sync")
    if facts.voters_changing or not facts.voting == facts.peer_voting == number:
        raise CallFailed(errno.EBUSY, "A change of the voters is under way: not both controllers have taken it up")


def _check_new(new: list[str], named: list[str], views: Mapping[Node, Sequence[SharedDisk]], *, force: bool) -> None:
    problems: list[tuple[str, str]] = []
    for serial in new:
        seen = {node: disk for node, disks in views.items() for disk in disks if disk.serial == serial}
        why = _why_not(seen, force=force)
        if why is not None:
            problems.append((f"disks.{named.index(serial)}", f"{serial} {why}"))
    if problems:
        raise Refused(*problems)


def _why_not(seen: Mapping[Node, SharedDisk], *, force: bool) -> str | None:
    """Why a disk cannot come to vote, as each controller sees it; None: it can."""
    if len(seen) < 2:
        return "is no shared disk that both controllers have"
    for node, disk in seen.items():
        if not disk.reachable:
            return f"does not answer on controller {node}: {disk.error}"
        if not disk.slots_of and not disk.slots_error:
            return f"cannot vote yet: controller {node} has not looked at its slots; ask again in a few seconds"
        if not disk.slots_of:
            return f"cannot vote: controller {node} can read no slots on it, which keep the record: {disk.slots_error}"
        if disk.slots_of in _OVERWRITTEN and not force:
            return f"has {_OVERWRITTEN[disk.slots_of]} where the record would lie; `force` writes over it"
    return None


def _shown(disk: SharedDisk) -> Voter:
    states: dict[tuple[int, ...], Literal["voting", "leaving", "joining", "not voting"]]
    states = {(): "not voting", (0,): "leaving" if disk.changing else "voting", (1,): "joining", (0, 1): "voting"}
    return Voter(
        serial=disk.serial,
        state=states[disk.sets],
        reachable=disk.reachable,
        held_by=disk.owner,
        term=disk.term,
        keeps=disk.keeps,
        slots_of=disk.slots_of,
        error=disk.error or disk.slots_error,
    )


@peer("failover.voters.here")
async def here(call: PeerCall) -> list[SharedDisk]:
    """The shared disks as this controller sees them."""
    return list(call.controller.facts().shared_disks)


async def settle(call: DutyCall) -> None:
    """Let the new voters vote alone, once both controllers have taken up that both sets do."""
    state, facts = call.state(voters.NOUN), call.controller.facts()
    if len(state.sets) != 2 or len(facts.in_sync) < 2 or not facts.voting == facts.peer_voting == state.number:
        return
    number = facts.term << 16
    await call.execute(voters.Settle(of=state.number, number=number), request_id=f"voters-settled-{state.number}")


METHODS = (query_voters, set_voters)
PEER_METHODS = (here,)
DUTIES = (Duty(name="settle voters", run=settle),)
