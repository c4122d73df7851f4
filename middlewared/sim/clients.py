"""The clients: each asks for one thing after the other, and keeps asking under the same id until it is answered.

An answer that says nothing of the outcome (no role, a standby, out of time, no answer) leads to the other controller
with the same id; some clients give up instead, and then the outcome stays unknown: it may have happened or not.
"""

from __future__ import annotations

from random import Random
from typing import Literal, Protocol

import msgspec

from middlewared.engine.context import Committed
from middlewared.kernel.errors import Refused
from middlewared.kernel.event import Record
from middlewared.kernel.facts import Node, other
from middlewared.sim.network import Path
from middlewared.sim.noun import KEYS, Put, Swap
from middlewared.sim.timeline import Timeline

PATIENCE_S = 3.0
AGAIN_S = 0.4

Outcome = Literal["open", "ok", "refused", "unknown"]
Key = tuple[str, str]
"""Who asked, and under which id: what names a request."""


def asker(record: Record) -> Key:
    """Written out here and not taken from kernel.outcomes: a checker must not share the mistakes of what it checks."""
    return record.actor.partition("@")[0], record.request_id


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller gave out, whether it arrived or not.

    seq, level: of the record that carries it; of a refusal, where the log of the answerer ended. again: an earlier copy
    of the request had been carried out.
    """

    node: Node
    outcome: Outcome
    seq: int
    level: str
    again: bool = False


class Operation:
    """One request and what is known of it. sent: how often. given: what was answered, by whomever."""

    def __init__(self, client: str, request_id: str, command: Put | Swap, now: float) -> None:
        self.key: Key = (client, request_id)
        self.command = command
        self.asked_at = now
        self.answered_at = 0.0
        self.outcome: Outcome = "open"
        self.sent = 0
        self.turn = 0
        self.given: list[Answer] = []

    @property
    def size(self) -> int:
        """How many events it makes."""
        return len(self.command.keys) if isinstance(self.command, Put) else 1

    def __str__(self) -> str:
        return "/".join(self.key)


class World(Protocol):
    """Where the clients live."""

    timeline: Timeline
    random: Random

    def client_path(self, node: Node) -> Path: ...

    def ask(self, node: Node, operation: Operation, client: Client) -> None:
        """Have `node` carry out the operation; `client.hear` is called with what it answers, if it does."""
        ...


class Client:
    """name: of the account. every_s: the pause between two requests, on average. quits: how often it gives up.

    known: what all clients together believe that the registers hold.
    """

    def __init__(self, world: World, name: str, known: dict[str, str], every_s: float, quits: float) -> None:
        self._world = world
        self._name = name
        self._every_s = every_s
        self._quits = quits
        self._known = known
        self._stopped = False
        self.operations: list[Operation] = []

    @property
    def waits(self) -> bool:
        return bool(self.operations) and self.operations[-1].outcome == "open"

    def start(self) -> None:
        self._world.timeline.after(self._world.random.random() * 2 * self._every_s, self._begin)

    def stop(self) -> None:
        """Begin nothing new; what is open goes on."""
        self._stopped = True

    def _begin(self) -> None:
        if self._stopped:
            return
        number = len(self.operations)
        command = self._command(self._world.random, f"{self._name}{number}")
        # All clients use the same ids: only together with the account does an id name a request.
        operation = Operation(self._name, f"r{number}", command, self._world.timeline.now)
        self.operations.append(operation)
        self._send(operation, self._world.random.choice(("A", "B")))

    def _command(self, random: Random, value: str) -> Put | Swap:
        kind, key = random.random(), random.choice(KEYS)
        if kind < 0.4:
            return Put(keys=(key,), value=value)
        if kind < 0.6:
            return Put(keys=KEYS[:2], value=value)
        return Swap(key=key, old=self._known.get(key, ""), value=value)

    def _send(self, operation: Operation, node: Node) -> None:
        if operation.outcome != "open":
            return
        world = self._world
        operation.sent += 1
        operation.turn += 1
        world.client_path(node).carry(world.timeline, lambda: world.ask(node, operation, self))
        world.timeline.after(PATIENCE_S, self._late, operation, node, operation.turn)

    def _late(self, operation: Operation, node: Node, turn: int) -> None:
        if operation.outcome == "open" and turn == operation.turn:
            self._send_again(operation, node)

    def hear(self, operation: Operation, node: Node, turn: int, answer: object) -> None:
        """`node` answers what was sent as `turn`."""
        if operation.outcome != "open":
            return
        if isinstance(answer, Committed):
            self._end(operation, "ok")
        elif isinstance(answer, Refused):
            self._end(operation, "refused")
        elif turn == operation.turn:
            self._send_again(operation, node)

    def _send_again(self, operation: Operation, node: Node) -> None:
        random = self._world.random
        if random.random() < self._quits:
            self._end(operation, "unknown")
            return
        operation.turn += 1
        self._world.timeline.after(AGAIN_S * random.random(), self._send, operation, other(node))

    def _end(self, operation: Operation, outcome: Outcome) -> None:
        operation.outcome = outcome
        operation.answered_at = self._world.timeline.now
        command = operation.command
        if outcome == "ok":
            self._known.update(
                dict.fromkeys(command.keys if isinstance(command, Put) else (command.key,), command.value)
            )
        self._world.timeline.after(self._world.random.expovariate(1 / self._every_s), self._begin)
