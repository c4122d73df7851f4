"""Carries a ballot (protocol/ballot.py) out on the shared disks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from middlewared.kernel.facts import Node
from middlewared.ports import Clock, Voter
from middlewared.protocol import ballot


class Polling:
    """One ballot, held. `outcome` is set when it is won or lost; the rest of the disks is claimed after that.

    Bounded by the voters' own deadlines and by the ballot's number of tries.
    """

    def __init__(self, machine: ballot.Ballot, node: Node, voters: Mapping[str, Voter], clock: Clock) -> None:
        self.outcome: asyncio.Future[ballot.Won | ballot.Lost] = asyncio.get_running_loop().create_future()
        self._machine = machine
        self._node = node
        self._voters = voters
        self._clock = clock
        self._inbox: asyncio.Queue[ballot.Message] = asyncio.Queue()
        self._questions: set[asyncio.Task[None]] = set()
        self._run = asyncio.create_task(self._poll())
        self._run.add_done_callback(self._ended)

    async def _poll(self) -> None:
        message: ballot.Message = ballot.Start()
        while True:
            for action in self._machine.receive(message, self._clock.boottime()):
                self._carry_out(action)
            if self.outcome.done() and not self._questions and self._inbox.empty():
                return
            message = await self._next()

    async def _next(self) -> ballot.Message:
        deadline = self._machine.deadline()
        within_s = None if deadline is None else max(0.0, deadline - self._clock.boottime())
        try:
            return await asyncio.wait_for(self._inbox.get(), within_s)
        except TimeoutError:
            return ballot.Tick()

    def _carry_out(self, action: ballot.Action) -> None:
        if isinstance(action, ballot.Won | ballot.Lost):
            self.outcome.set_result(action)
            return
        question = asyncio.create_task(self._ask(action))
        self._questions.add(question)

    async def _ask(self, action: ballot.Read | ballot.Claim | ballot.Release) -> None:
        voter = self._voters[action.voter]
        message: ballot.Message
        match action:
            case ballot.Read():
                message = ballot.WasRead(action.voter, await voter.read())
            case ballot.Claim(term=term, over=over):
                message = ballot.WasClaimed(action.voter, term, await voter.claim(self._node, term, over))
            case ballot.Release(term=term):
                message = ballot.WasReleased(action.voter, await voter.release(self._node, term))
        this = asyncio.current_task()
        assert this is not None
        self._questions.discard(this)
        self._inbox.put_nowait(message)

    def _ended(self, run: asyncio.Task[None]) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(run.exception() or RuntimeError("the ballot ended without an outcome"))
