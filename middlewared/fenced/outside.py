"""Everything that fenced reaches beside the voters: its socket, its memory, chance, the journal, and the reset.

The simulator has others, on virtual time and from one seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from middlewared.config import BootFile
from middlewared.fenced.ended import NO_ENDS, Ends, EndsFile, end_by
from middlewared.fenced.hub_server import HubServer
from middlewared.fenced.memory import Memory, recall, remember
from middlewared.ports import Clock, Power, Voter
from middlewared.protocol import hub
from middlewared.shell.boot_id import this_boot
from middlewared.shell.journal import Journal
from middlewared.shell.kept_voters import Kept, keep
from middlewared.shell.kept_voters import recall as recall_voters
from middlewared.shell.lab_power import LabPower
from middlewared.shell.reboot import reboot
from middlewared.shell.shared_disks import SharedDisks


class Client(Protocol):
    """One of the other two processes, or a connection that has not said yet which. who: None before its Hello."""

    who: str | None

    def send(self, message: hub.FromFenced) -> None: ...


class Hub(Protocol):
    """hub_server.HubServer, as far as fenced asks it."""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def say(self, who: str, message: hub.FromFenced) -> None: ...

    def has(self, who: str) -> bool: ...


OnMessage: TypeAlias = Callable[[Any, hub.ToFenced], None]
OnGone: TypeAlias = Callable[[Any], None]


async def _keeps_nothing(kept: Kept) -> None:
    """Where no boot comes after this one."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """hub: makes the socket, given what to call for a message and for a client that left.

    recall: what is remembered of this boot, at `now`. remember: raises OSError. draw: a number between two, by chance.
    note: one line for people. end: ends this controller at once, for the reason that is given. others: the shared disks
    that do not vote. power: of the other controller; None: there is no way to it. ends: of this controller, as known
    when fenced starts. pardon: they count no more. use_key: the cluster's id and key, by which the slots are read.
    kept_voters, keep_voters: which disks vote, over boots; keeping is durable and raises OSError.
    """

    hub: Callable[[OnMessage, OnGone], Hub]
    recall: Callable[[float], Memory]
    remember: Callable[[Memory], None]
    draw: Callable[[float, float], float]
    note: Callable[..., None]
    end: Callable[[str], None]
    others: tuple[Voter, ...] = ()
    power: Power | None = None
    ends: Ends = NO_ENDS
    pardon: Callable[[], None] = lambda: None
    use_key: Callable[[str, bytes], None] = lambda cluster_id, key: None
    kept_voters: Kept | None = None
    keep_voters: Callable[[Kept], Awaitable[None]] = _keeps_nothing


def of_this_host(boot: BootFile, disks: SharedDisks, clock: Clock) -> Surroundings:
    file = Path(boot.run_dir) / "fenced.state"
    voters = Path(boot.data_dir) / "voters.json"
    note = Journal("fenced").note
    ends = EndsFile(Path(boot.data_dir) / "ended.json", this_boot(), clock, note)

    def end(why: str) -> None:
        ends.add(why)
        end_by((partial(reboot, boot.fence.reboot), partial(reboot, "init"), partial(reboot, "sysrq")), why)

    return Surroundings(
        hub=lambda on_message, on_gone: HubServer(boot.fenced_socket, on_message=on_message, on_gone=on_gone),
        recall=lambda now: recall(file, this_boot(), now),
        remember=lambda memory: remember(file, memory),
        draw=random.uniform,
        note=note,
        end=end,
        others=disks.others,
        use_key=disks.use,
        power=LabPower(boot.power.path) if boot.power is not None else None,
        ends=ends.ends,
        pardon=ends.pardon,
        kept_voters=recall_voters(voters),
        keep_voters=lambda kept: asyncio.to_thread(keep, voters, kept),
    )
