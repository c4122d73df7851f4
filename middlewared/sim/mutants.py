"""Seeded bugs: the proof that the simulator would notice. How they are hunted: hunt.py.

Each mutant is one place of the code, and what a bug there would break. One that no seed finds means that the world or a
checker is too weak; one whose text is not there any more has to be written anew.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """old occurs exactly once in `file`. breaks: what the bug is."""

    name: str
    file: str
    old: str
    new: str
    breaks: str


_OWNER = "middlewared/protocol/replication_owner.py"
_IN_SYNC = "middlewared/protocol/in_sync.py"
_STANDBY = "middlewared/protocol/replication_standby.py"
_ENGINE = "middlewared/engine/engine.py"
_UNDER_WAY = "middlewared/engine/under_way.py"
_REGISTER = "middlewared/kernel/register.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "ack-before-commit",
        _STANDBY,
        "frames.Ack(self.term, log.head,",
        "frames.Ack(self.term, log.tip,",
        "the standby acknowledges what it received, not what is durable",
    ),
    Mutant(
        "apply-before-commit-index",
        _STANDBY,
        "reached = min(commit_seq, log.head.seq)",
        "reached = log.head.seq",
        "the standby applies what it stored before it was told that it is committed",
    ),
    Mutant(
        "ignore-term-in-frames",
        "middlewared/protocol/replication.py",
        "elif frame.term < self.term:\n            self.line.send(frames.Stale(self.term))\n"
        "        else:\n            self._outranked(frame.term)\n",
        "else:\n",
        "nobody looks at a frame's term: one of a term that is over is believed, and nobody gives way to a later one",
    ),
    Mutant(
        "clear-the-tail",
        "middlewared/sim/disk.py",
        "        platter.quarantine += tail\n",
        "",
        "a tail is cut without being set aside",
    ),
    Mutant(
        "adopt-the-higher-seq",
        "middlewared/protocol/replication_frames.py",
        "            return end.term, min(end.seq, ends[end.term])",
        "            return end.term, min(theirs[-1].seq, mine[-1].seq)",
        "the match point is the shorter log's end, whatever its terms",
    ),
    Mutant(
        "match-by-the-wrong-end",
        "middlewared/protocol/replication_frames.py",
        "            return end.term, min(end.seq, ends[end.term])",
        "            return end.term, end.seq",
        "the match point is the standby's end of the common term, also where the owner's ends before",
    ),
    Mutant(
        "answer-before-the-record",
        _OWNER,
        "        if self._in_sync.may_name(self.peer):\n",
        "        if self._in_sync.may_name(self.peer) and self._streaming:\n",
        "a write is answered without the peer before the record leaves the peer out",
    ),
    Mutant(
        "own-disk-is-enough",
        _OWNER,
        "            reached = min(log.head, self.acked, key=lambda position: position.seq)",
        "            reached = log.head",
        "a write is committed before the peer, which is in sync, has it",
    ),
    Mutant(
        "believe-one-disk",
        _IN_SYNC,
        "self.unwritten = not tenure.alone",
        "self.unwritten = False",
        "a record that was read from one disk alone is acted upon",
    ),
    Mutant(
        "skip-the-record-write",
        _OWNER,
        "        self.line.act(values.WriteRecord(id_, record))\n",
        "        self._in_sync.written(values.Written(id_, True), now)\n",
        "an owner goes on as if the record said who is in sync, and never writes it",
    ),
    Mutant(
        "cut-what-is-under-way",
        _OWNER,
        "if follow is None or (follow.head.seq > log.head.seq and log.head != log.tip):",
        "if follow is None:",
        "the standby sets aside what is on its way to the owner's disk",
    ),
    Mutant(
        "pair-too-early",
        _OWNER,
        "pair_seq = max(log.pair_seq, reached.seq) if self.peer in self.synced else log.pair_seq",
        "pair_seq = max(log.pair_seq, reached.seq)",
        "a write that only this controller has is called pair",
    ),
    Mutant(
        "open-although-behind",
        _OWNER,
        "why = None if tenure.alone or tenure.forced else lacks(tenure, self.node, log.head)",
        "why = None",
        "an owner opens although its log does not reach the record",
    ),
    Mutant(
        "grant-a-term-twice",
        _REGISTER,
        "if term <= self.holding.term or over != self.holding:",
        "if term < self.holding.term:",
        "a disk grants one term to both",
    ),
    Mutant(
        "older-record-wins",
        _REGISTER,
        "(held.term, held.serial) > (record.term, record.serial)",
        "(held.term, held.serial) < (0, 0)",
        "a record that was overtaken on its way is written over the later one",
    ),
    Mutant(
        "a-minority-is-enough",
        "middlewared/protocol/quorum.py",
        "    return len(voters) // 2 + 1",
        "    return len(voters) // 2",
        "a term is won on a minority of the disks",
    ),
    Mutant(
        "remember-the-record",
        "middlewared/fenced/fenced.py",
        "record = facts.record if facts.owns else await self._disks.read_record()",
        "record = facts.record",
        "whoever wins a term uses the record that it saw last, not the one that stands on the disks",
    ),
    Mutant(
        "same-term-after-a-restart",
        "middlewared/engine/tenure.py",
        "        if self._floor is None:\n            self._floor = standing.term\n            self._begin()\n",
        "        if self._floor is None:\n            self._floor = standing.term - 1\n",
        "a process goes on in the term of the one before it",
    ),
    Mutant(
        "stay-overtaken",
        "middlewared/protocol/failover_conditions.py",
        "    if s.overtaken:\n",
        "    if False:\n",
        "an owner leaves a disk that stands in a later term as it is",
    ),
    Mutant(
        "decide-a-retry-again",
        _UNDER_WAY,
        "        seen = requests.find(waiter.key)\n",
        "        seen = None\n",
        "a request that was carried out is carried out once more when it comes again",
    ),
    Mutant(
        "one-id-for-everybody",
        "middlewared/kernel/outcomes.py",
        '    return actor.partition("@")[0]',
        '    return ""',
        "the request of one account is answered with the outcome of another's",
    ),
    Mutant(
        "expire-by-the-wall-clock",
        "middlewared/kernel/outcomes.py",
        "max(0, min(record.wall_ns - self._wall_ns, STEP_NS))",
        "abs(record.wall_ns - self._wall_ns)",
        "a clock that jumps makes what was done be forgotten",
    ),
    Mutant(
        "answer-what-is-not-committed",
        _UNDER_WAY,
        "        if seen.at is None and outcome.last <= committed_seq:\n",
        "        if True:\n",
        "a retry is answered as done while its record is not committed",
    ),
    Mutant(
        "refuse-by-what-may-be-cut",
        _ENGINE,
        "                waiter.refusal = e if self._tenure.is_sure() else NoRole(NOT_SURE, RETRY_AFTER_S)\n",
        "                self._under_way.finish(waiter, e)\n                continue\n",
        "a refusal is answered before what it was decided against is committed",
    ),
    Mutant(
        "answer-what-was-cut",
        _ENGINE,
        "            self._under_way.finish(waiter, OutcomeUnknown(waiter.request_id))\n        applied = ",
        "            self._under_way.finish(waiter, self._committed(waiter.at.seq, waiter.term, waiter.events))\n"
        "        applied = ",
        "a write is answered as done when its record is set aside",
    ),
    Mutant(
        "renewal-after-expiry",
        "middlewared/sim/processes.py",
        "    stall_s=0.75,\n",
        "    stall_s=30.0,\n",
        "who stood still for longer than the lease renews it, and makes the address anew: no boot file may say so",
    ),
    Mutant(
        "pools-never-told",
        "middlewared/engine/told_pools.py",
        "self._tell(sorted({*(pool.guid for pool in here), *came, *self._may_be_here}))",
        "self._tell([])",
        "fenced does not know that this controller has pools",
    ),
    Mutant(
        "vip-kept-on-revoke",
        "middlewared/protocol/warrant.py",
        "if standing.role in _GRANTS and standing.serves:",
        "if standing.role in _GRANTS or isinstance(self.last, Grant):",
        "who stands by goes on holding the address",
    ),
    Mutant(
        "serve-before-import",
        "middlewared/fenced/serving.py",
        "self.serves = not self.pools.imported and (settings is None or not settings.pools)",
        "self.serves = True",
        "clients are let in before the pools are there",
    ),
    Mutant(
        "preempted-and-lives-on",
        "middlewared/fenced/serving.py",
        "if owns or not self.pools.imported or peer_took is None:",
        "if True:",
        "a controller whose term was taken keeps its pools",
    ),
    Mutant(
        "resigns-with-a-pool",
        "middlewared/fenced/fenced.py",
        "if facts.serving.pools.imported:",
        "if False:",
        "the disks are freed while a pool is imported here",
    ),
    Mutant(
        "pools-told-too-late",
        "middlewared/engine/told_pools.py",
        "        self._may_be_here.append(guid)\n        await self.look()\n",
        "        self._may_be_here.append(guid)\n",
        "fenced does not know of a pool while it is being imported",
    ),
    Mutant(
        "deposed-goes-on",
        "middlewared/protocol/failover_conditions.py",
        '        return f"{s.peer} holds a majority of the disks"\n',
        "        return None\n",
        "an owner whose disks are the other one's goes on until it hears of it otherwise",
    ),
    Mutant(
        "never-forces",
        "middlewared/engine/promotion.py",
        "await self._pools.import_all(force=not self._is_alone())",
        "await self._pools.import_all(force=False)",
        "the pools of a controller that died with them cannot be imported",
    ),
    Mutant(
        "lease-never-lapses",
        "middlewared/protocol/carp.py",
        "actions.append(RenewVip(self.group.lease_s))",
        "actions.append(RenewVip(3600.0))",
        "the kernel answers for the address for an hour, whatever becomes of carpd",
    ),
    Mutant(
        "old-counter-accepted",
        "middlewared/protocol/carp_election.py",
        "        if frame.counter <= self._accepted:\n            return Refusal.REPLAY\n",
        "",
        "an advert that is played again is a sign of life",
    ),
    Mutant(
        "higher-term-answered",
        "middlewared/protocol/carp_table.py",
        "    (State.MASTER, Signal.BETTER): (State.BACKUP, (Deed.DROP, Deed.LISTEN)),\n",
        "    (State.MASTER, Signal.BETTER): (State.MASTER, (Deed.ANSWER,)),\n",
        "who hears of a higher term keeps the address until its fenced hears of it, too",
    ),
    Mutant(
        "old-grant-accepted",
        "middlewared/protocol/carp_election.py",
        "if term < self.highest:",
        "if False:",
        "a grant of a term that is known to be over makes a master",
    ),
    Mutant(
        "preempt-skipped",
        "middlewared/fenced/disks.py",
        "if isinstance(answer, Denied) and answer.holding.term < term:",
        "if False:",
        "a disk that did not answer the ballot is left to the other controller, which can go on writing it",
    ),
    Mutant(
        "fenced-says-yes",
        "middlewared/fenced/fencing.py",
        "fenced=off or _all_held(held),",
        "fenced=True,",
        "pools are imported before every disk that is reached is ours",
    ),
    Mutant(
        "block-skipped",
        "middlewared/engine/handover.py",
        '        if not self._has_pools:\n            return "no pool is imported"\n        standing',
        '        if True:\n            return ""\n        standing',
        "pools are exported while clients are answered",
    ),
)

QUICK = ("own-disk-is-enough", "clear-the-tail", "decide-a-retry-again", "pair-too-early", "open-although-behind")
