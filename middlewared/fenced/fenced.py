"""fenced: the one process of a controller that owns terms.

Every STEP_S, and whenever something is heard, it makes a view of what it knows, lets protocol/failover.py decide, and
carries the verdict out: it stands by, holds a ballot, owns, or resigns; and says so to carpd and middlewared.

What is said waits in one case: after a start or a sleep, until the disks were asked again or HOLD_S passed. A restart
of an owner so shows no other role in between, and a thawed owner says nothing before it knows what it still owns.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

from middlewared.config import BootFile
from middlewared.fenced.disks import Disks, later
from middlewared.fenced.facts import Facts
from middlewared.fenced.fencing import Fencing
from middlewared.fenced.outside import Client, Surroundings
from middlewared.fenced.polling import Polling
from middlewared.fenced.recording import Recording
from middlewared.fenced.standing import news, standing_of
from middlewared.fenced.voting import Electorate
from middlewared.kernel.facts import PairRecord
from middlewared.kernel.register import Silent
from middlewared.ports import Clock, Voter
from middlewared.protocol import hub
from middlewared.protocol.ballot import Ballot, Lost, Mandate
from middlewared.protocol.failover import Decision, Verdict, decide, is_settled
from middlewared.protocol.failover_view import Situation, shown
from middlewared.protocol.quorum import Quorum
from middlewared.shell.notify import Init

STEP_S = 0.02
SAY_AGAIN_S = 0.5
HOLD_S = 0.6
TRIES = 4
PAUSE_S = (0.02, 0.12)
"""Bounds of the random pauses between the tries of a ballot, and after one that was lost."""

VIP_DROP_S = 0.1
"""A resigning owner waits so long for carpd to say that the addresses are down before it frees the disks."""


class Fenced:
    """One controller's fenced.

    voters: the shared disks. scheduling: what real-time treatment the process got, for status.
    """

    def __init__(
        self, boot: BootFile, voters: tuple[Voter, ...], clock: Clock, scheduling: str, outside: Surroundings
    ) -> None:
        self._boot = boot
        self._clock = clock
        self._scheduling = scheduling
        now = clock.boottime()
        self._outside = outside
        self._note = outside.note
        self._facts = Facts(boot, outside.recall(now), outside.ends, now)
        self._remembered = self._facts.memory()
        if (settings := self._facts.settings) is not None:
            outside.use_key(settings.cluster_id, settings.key)
        default = Quorum((tuple(voter.name for voter in voters),) if voters else ())
        self._disks = Disks(boot.node, (*voters, *outside.others), default, clock, self._step)
        self._recording = Recording(self._facts, self._disks, self._note)
        self._voting = Electorate(default, self._disks, self._facts, self._recording, outside, lambda: self._claiming)
        self._fencing = Fencing(has_power=outside.power is not None)
        self._server = outside.hub(self._on_message, self._on_gone)
        self._decision = Decision("START", Verdict.WAIT, "fenced starts")
        self._carp: hub.Carp | None = None
        self._vips_down = asyncio.Event()
        self._vips_down.set()
        self._said: hub.Standing | None = None
        self._said_at = 0.0
        self._hold_until = now + HOLD_S
        self._claiming = False
        self._claim_not_before = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when the socket cannot be opened."""
        self._server.open()
        facts = self._facts
        self._note(
            "start", node=facts.node, owned_term=facts.owned_term, settled=facts.settled, scheduling=self._scheduling
        )
        Init().say("READY=1")
        disk_s = self._boot.timing.disk_ms / 1000
        next_round = self._clock.boottime()
        try:
            while True:
                now = self._clock.boottime()
                self._step()
                if now >= next_round:
                    next_round = max(next_round + disk_s, now)
                    self._ask_disks(now)
                await asyncio.sleep(STEP_S)
        finally:
            self._server.close()

    # In: what is heard

    def _on_message(self, client: Client, message: hub.ToFenced) -> None:
        facts, now = self._facts, self._clock.boottime()
        self._wake(now)
        match message:
            case hub.Hello(who=who):
                self._greet(client, who)
            case hub.Settings():
                facts.configure(message, now)
                self._outside.use_key(message.cluster_id, message.key)
                self._disks.look_at_slots_anew()
                self._server.say("carpd", message)
                if (voting := self._voting.hear(message)) is not None:
                    self._start(self._voting.take_up(voting, message.cluster_id))
            case hub.Heard():
                facts.hear(message, now)
            case hub.Carp():
                self._carp = message
                down = all(vip.state != "MASTER" for vip in message.vips)
                (self._vips_down.set if down else self._vips_down.clear)()
                self._server.say("middlewared", message)
            case hub.Begin():
                # Who needs a new term asks at every word until it has one: answering each of them would never end.
                if not facts.begins:
                    facts.begins, self._said = facts.owns, None
            case hub.Force():
                facts.forced = True
                self._claim_not_before = 0.0
            case hub.Pools():
                facts.serving.pools = message
            case hub.Serve(term=term) | hub.Block(term=term):
                if facts.owns and facts.term == term:
                    self._let_clients_in(isinstance(message, hub.Serve))
            case hub.Resign(why=why, failed=failed):
                self._asked_to_resign(why, failed, now)
            case hub.End(why=why):
                self._end(why)
            case hub.Write(id=id_, record=record):
                self._start(self._write(client, id_, record))
        self._step()

    def _greet(self, client: Client, who: str) -> None:
        """Tell a client all that it must know; the standing follows when it may be said."""
        if who == "carpd" and self._facts.settings is not None:
            client.send(self._facts.settings)
        if who == "middlewared" and self._carp is not None:
            client.send(self._carp)
        self._said = None

    def _on_gone(self, client: Client) -> None:
        if client.who == "carpd" and not self._server.has("carpd"):
            self._facts.deafen()

    # Deciding

    def _wake(self, now: float) -> None:
        if self._facts.step(now):
            self._note("slept", why="this process did not run for a while; ages count anew")
            self._disks.forget_ages(now)
            self._hold_until = now + HOLD_S
            self._ask_disks(now)

    def _step(self) -> None:
        """Look at what is known, decide, carry out, say."""
        now = self._clock.boottime()
        self._wake(now)
        facts = self._facts
        view = facts.view(self._disks, now)
        facts.settled = is_settled(view, now)
        self._forget_resignation(now)
        decision = decide(view, now)
        self._carry_out(decision, now)
        if facts.owns and self._fencing.ask_power(self._disks.held(facts.term), now):
            self._start(self._cut_power())
        self._remember()
        self._say(now)
        why = facts.serving.must_end(Situation(view, now).peer_took, owns=facts.owns)
        if why is not None:
            self._end(why)

    def _forget_resignation(self, now: float) -> None:
        facts = self._facts
        if facts.resigned_at is None:
            return
        word = facts.word(now)
        taken = word is not None and word.owner
        if taken or now - facts.resigned_at >= facts.windows.resign_s:
            facts.resigned_at = None

    def _carry_out(self, decision: Decision, now: float) -> None:
        facts = self._facts
        if decision.verdict is not Verdict.CLAIM:
            facts.forced = False
        match decision.verdict:
            case Verdict.WAIT:
                self._give_up(decision, "WAITING", now)
            case Verdict.STAND_BY:
                self._give_up(decision, "STANDBY", now)
            case Verdict.SINGLE:
                assert facts.settings is not None
                facts.owns, facts.term = False, facts.settings.single_term
                self._be("SINGLE", decision, now)
            case Verdict.RESIGN:
                self._leave(decision)
            case Verdict.CLAIM:
                if not self._claiming and now >= self._claim_not_before:
                    self._claiming = True
                    self._start(self._claim(decision))
            case Verdict.OWN:
                # The standing stays what the claim made it, with the reason that it was made for.
                facts.serving.leaving = None

    def _give_up(self, decision: Decision, role: hub.Role, now: float) -> None:
        """Own no more, or stay without. A claim that runs goes on: the disks decide."""
        facts = self._facts
        if decision.rule == "DEPOSED":
            facts.owned_term = 0
            facts.serving.over()
        facts.disown(decision, now)
        facts.term = max(facts.term, self._disks.highest_term())
        facts.record = later(facts.record, self._disks.record())
        self._be(role, decision, now)

    def _be(self, role: hub.Role, decision: Decision, now: float) -> None:
        facts = self._facts
        if role != facts.role or decision.rule != self._decision.rule:
            self._note("stand", was=facts.role, role=role, term=facts.term, rule=decision.rule, why=decision.why)
        if role != facts.role:
            facts.role, facts.role_since = role, now
        self._decision = decision

    # Owning

    def _ask_disks(self, now: float) -> None:
        if self._facts.owns:
            self._disks.beat(self._facts.term, int(now * 1000))
        else:
            self._disks.look()

    async def _claim(self, decision: Decision) -> None:
        """Hold the ballot that the decision asks for."""
        facts, began_at = self._facts, self._clock.boottime()
        forced = facts.forced
        if not facts.owns:
            facts.serving.decide(began_at, facts.last_sign_at(self._disks))
        mandate = Mandate(
            node=facts.node,
            known_term=facts.known_term(self._disks),
            own_term=facts.owned_term if facts.owns or decision.rule == "RESUMES" else 0,
            forced=forced or not self._disks.voters,
        )
        self._note("claim", above=mandate.known_term, rule=decision.rule, why=decision.why)
        pauses_s = tuple(self._outside.draw(*PAUSE_S) for _ in range(TRIES - 1))
        machine = Ballot(mandate, self._disks.quorum, pauses_s=pauses_s)
        outcome = await Polling(machine, facts.node, self._disks.voters, self._clock).outcome
        record = facts.record if facts.owns else await self._disks.read_record()
        self._claiming = False
        if isinstance(outcome, Lost):
            self._lose(outcome.why, forced)
        elif facts.resigned_at is not None and facts.resigned_at >= began_at:
            await self._disks.release(outcome.term)
        elif isinstance(record, Silent):
            await self._disks.release(outcome.term)
            self._lose(record.why, forced)
        else:
            self._own(outcome.term, record, decision)

    def _lose(self, why: str, forced: bool) -> None:
        facts, now = self._facts, self._clock.boottime()
        facts.forced = facts.forced and not forced
        self._claim_not_before = now + self._outside.draw(*PAUSE_S)
        self._said = None
        self._note("claim-lost", why=why)
        self._ask_disks(now)  # a rival that won shows it there, before the next try
        self._step()

    def _own(self, term: int, record: PairRecord | None, decision: Decision) -> None:
        """A majority granted `term`. The record is carried over into it; what it says of the logs stays as it was."""
        facts, now = self._facts, self._clock.boottime()
        if not facts.owns and decision.rule != "RESUMES":
            word = facts.word(now)
            self._fencing.gained(now, takeover=word is None or word.owner)
            facts.serving.gained(facts.settings)
        facts.owns, facts.term, facts.owned_term = True, term, term
        facts.begins = facts.forced = False
        facts.resigned_at = None
        self._disks.start_owning(term, now)
        self._note("own", was=facts.role, term=term, rule=decision.rule, why=decision.why)
        if (carried := self._recording.begin(term, record)) is not None:
            self._start(self._recording.carry_over(carried))
        if facts.ended_often and decision.rule == "FORCED":
            facts.ended_often = False
            self._outside.pardon()
        facts.role, facts.role_since, self._decision = "OWNER", now, decision
        self._ask_disks(now)
        self._step()

    async def _write(self, client: Client, id_: int, record: PairRecord) -> None:
        why = await self._recording.write(record)
        client.send(hub.Written(id=id_, ok=why is None, why=why or ""))
        self._step()

    async def _cut_power(self) -> None:
        """A disk that the other controller may write is left."""
        assert self._outside.power is not None
        self._note("power-off", held=self._disks.held(self._facts.term))
        why = await self._outside.power.power_off()
        self._note("power-was", off=why is None, why=why)
        self._fencing.power_was(why)
        self._step()

    def _let_clients_in(self, yes: bool) -> None:
        if self._facts.serving.serves != yes:
            self._note("serve" if yes else "block", term=self._facts.term)
        self._facts.serving.serves = yes

    def _leave(self, decision: Decision) -> None:
        """Resign, or where pools are imported have middlewared export them first."""
        serving = self._facts.serving
        if not serving.pools.imported:
            self._resign(decision)
        elif serving.leaving != decision.why:
            serving.leaving, serving.leaves_by, self._said = decision.why, decision.rule, None
            self._note("leave", rule=decision.rule, why=decision.why)

    def _asked_to_resign(self, why: str, failed: bool, now: float) -> None:
        facts = self._facts
        if not facts.owns:
            return
        if facts.serving.pools.imported:
            self._note("not-resigned", why="a pool is imported here")
            return
        if failed:
            facts.serving.fail(why, now)
        self._resign(Decision("FAILED" if failed else "ASKED", Verdict.RESIGN, why))

    def _end(self, why: str) -> None:
        """End the controller: nothing that runs on it may touch a pool from now on."""
        self._note("end", why=why)
        self._outside.end(why)

    def _resign(self, decision: Decision) -> None:
        """Say it first, so that the addresses go down; then free the disks."""
        facts, now = self._facts, self._clock.boottime()
        facts.serving.over()
        facts.disown(decision, now)
        facts.owned_term = 0
        facts.resigned_at = now
        self._be("STANDBY", decision, now)
        self._hold_until = now  # a term that was given up is over, whatever the disks say after a start or a sleep
        self._say(now)
        self._start(self._free_disks(facts.term))

    async def _free_disks(self, term: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(VIP_DROP_S):
                await self._vips_down.wait()
        await self._disks.release(term)
        self._note("released", term=term)

    # Out: what is said

    def _say(self, now: float) -> None:
        """Say where this controller stands, when that changed, was asked for, or was said long ago."""
        if now < self._hold_until and (self._claiming or not self._disks.all_asked_since(self._facts.awake_since)):
            return
        standing = standing_of(self._facts, self._disks, self._fencing, self._decision, self._scheduling, now)
        if self._said is not None and now - self._said_at < SAY_AGAIN_S and news(standing) == news(self._said):
            return
        self._said, self._said_at = standing, now
        self._server.say("carpd", standing)
        self._server.say("middlewared", standing)
        self._server.say("middlewared", hub.Seen(at=now, view=shown(self._facts.view(self._disks, now))))

    def _remember(self) -> None:
        memory = self._facts.memory()
        if memory == self._remembered:
            return
        try:
            self._outside.remember(memory)
        except OSError as e:
            self._note("not-remembered", file=e.filename, why=e.strerror)
        self._remembered = memory

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            raise SystemExit(f"fenced: {task.exception()!r}")
