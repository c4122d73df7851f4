"""The methods of `failover.voters`."""

from __future__ import annotations

import errno
from typing import Literal

import msgspec

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.kernel.facts import Node, SharedDisk
from middlewared.plugin import Call, ControllerFacts, Duty, DutyCall, PeerCall, command, peer, query

from . import voters

PEER_TIMEOUT_S = 2.0


class Voter(msgspec.Struct, frozen=True, kw_only=True):
    """One shared disk, as the controller that answers sees it.

    state: `voting`; while the voters are being changed also `joining` and `leaving`, which vote too; `not voting`.
    held_by, term: the reservation; null: free. keeps: where record and heartbeat are: `slots` on the disk, `register`.
    slots_of: whose slots are on it: nobody, us, another pair, unknown; "" where that was not looked at. error: why it
    does not answer.
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
    """force: take a disk whose slots are another pair's, or no slots at all; they are written over."""

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
    each disk that is new.
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
    there = msgspec.convert(answer, list[SharedDisk])
    _check_new([disk for disk in disks if disk not in now], disks, facts, there, force=force)


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


def _check_new(
    new: list[str], named: list[str], facts: ControllerFacts, there: list[SharedDisk], *, force: bool
) -> None:
    here = {disk.serial: disk for disk in facts.shared_disks}
    peers = {disk.serial: disk for disk in there}
    problems: list[tuple[str, str]] = []
    for serial in new:
        field = f"disks.{named.index(serial)}"
        if serial not in here or serial not in peers:
            problems.append((field, f"{serial} is no shared disk that both controllers have"))
        elif not here[serial].reachable or not peers[serial].reachable:
            error = here[serial].error or peers[serial].error
            problems.append((field, f"{serial} does not answer on both controllers: {error}"))
        elif here[serial].slots_of in ("another pair", "unknown") and not force:
            whose = "slots of another pair" if here[serial].slots_of == "another pair" else "something that is no slot"
            problems.append((field, f"{serial} has {whose} where the record would lie; `force` writes over it"))
    if problems:
        raise Refused(*problems)


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
        error=disk.error,
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
