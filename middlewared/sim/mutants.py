"""Seeded bugs: the proof that the simulator would notice.

Each mutant is one place of the code, changed in the memory of a child process as the module is imported; the tree is
never touched. The child lives through seeds until a checker says that something is wrong. A mutant that no seed finds
means that the world or a checker is too weak; one whose text is not there any more has to be written anew.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

SEEDS = 10_000
PER_MUTANT_S = 1800.0
ROOT = Path(__file__).parent.parent.parent


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
        "elif frame.term < self.term:",
        "elif frame.term < 0:",
        "frames of a term that is over are believed",
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
        "let-in-early",
        _OWNER,
        "            return both\n        if self._in_sync.unwritten:\n",
        "            return both\n        if False:\n",
        "the peer is let into the record by an owner that does not know what it answered",
    ),
    Mutant(
        "forget-what-the-record-said",
        _OWNER,
        "        self._believe(tenure)\n",
        "",
        "a record says less of what is committed than the one before, and lets somebody open who lacks it",
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
        "middlewared/protocol/ballot.py",
        "        return count > len(self._voters) // 2",
        "        return count >= len(self._voters) // 2",
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
        "stay-outranked",
        "middlewared/engine/tenure.py",
        "        elif self._replicator.replica.term > standing.term:\n",
        "        elif False:\n",
        "an owner that a lost claim of the peer outranked never asks for a term above it",
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
        "                waiter.refusal = e\n",
        "                self._under_way.finish(waiter, e)\n                continue\n",
        "a refusal is answered before what it was decided against is committed",
    ),
    Mutant(
        "answer-whatever-is-there",
        _ENGINE,
        "            if committed.get(waiter.at.seq, waiter.at.hash) != waiter.at.hash:\n",
        "            if False:\n",
        "a write is answered as done although another record was committed in its place",
    ),
)

NOT_FOUND_YET = (
    "let-in-early",
    "forget-what-the-record-said",
    "older-record-wins",
    "remember-the-record",
    "stay-outranked",
    "answer-what-is-not-committed",
    "answer-whatever-is-there",
)
"""What no seed showed so far: the world is too weak for them. They are hunted by name, and prove nothing (issue 3)."""

QUICK = ("own-disk-is-enough", "clear-the-tail", "decide-a-retry-again", "pair-too-early", "open-although-behind")


class Found(NamedTuple):
    """seed: the first that found it, None: none did."""

    seed: int | None
    checker: str
    why: str
    seconds: float


class NotThere(Exception):
    """The text of a mutant does not occur exactly once."""


def mutated(mutant: Mutant) -> str:
    """The source of the mutant's file with the bug in it. Raises NotThere."""
    text = (ROOT / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        raise NotThere(f"{mutant.name}: its text occurs {text.count(mutant.old)} times in {mutant.file}")
    return text.replace(mutant.old, mutant.new)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Hands out the mutated module under its own name."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = mutant.file.removesuffix(".py").replace("/", ".")
        self._path = str(ROOT / mutant.file)
        self._text = mutated(mutant)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(fullname, self._path, self._text), origin=self._path)


def hunt(mutant: Mutant, seeds: int) -> Found:
    """In this process, which has imported nothing of the system yet: live through seeds until one finds the bug."""
    sys.meta_path.insert(0, _Finder(mutant))
    from middlewared.sim.world import World

    began = time.monotonic()
    for seed in range(seeds):
        try:
            violations = World(seed).run().violations
        except AssertionError as e:
            return Found(seed, "assertion", str(e), time.monotonic() - began)
        if violations:
            return Found(seed, violations[0].checker, violations[0].why, time.monotonic() - began)
    return Found(None, "", "", time.monotonic() - began)


def hunt_in_a_child(mutant: Mutant, seeds: int) -> Found:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "middlewared.sim.mutants", "--hunt", mutant.name, "--seeds", str(seeds)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PER_MUTANT_S, check=False)
    except subprocess.TimeoutExpired:
        return Found(None, "", "", PER_MUTANT_S)
    if done.returncode != 0:
        return Found(None, "", done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it died", 0.0)
    return Found(*json.loads(done.stdout))


def hunt_all(mutants: Sequence[Mutant], seeds: int, processes: int) -> Iterator[tuple[Mutant, Found]]:
    """Every mutant, in order."""
    with ThreadPoolExecutor(processes) as pool:
        found = pool.map(lambda mutant: hunt_in_a_child(mutant, seeds), mutants)
        yield from zip(mutants, found, strict=True)


def main(argv: Sequence[str] | None = None) -> int:
    """0: every mutant was found."""
    parser = argparse.ArgumentParser(prog="python -m middlewared.sim.mutants", description="Finds seeded bugs")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many at most for each")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only the few that are found soonest")
    parser.add_argument("--only", action="append", metavar="NAME", help="only these")
    parser.add_argument("--hunt", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.hunt:
        mutant = next(mutant for mutant in MUTANTS if mutant.name == arguments.hunt)
        sys.stdout.write(json.dumps(hunt(mutant, arguments.seeds)))
        return 0
    all_ = [mutant.name for mutant in MUTANTS if mutant.name not in NOT_FOUND_YET]
    wanted = arguments.only or (QUICK if arguments.quick else all_)
    missed = 0
    for mutant, found in hunt_all([m for m in MUTANTS if m.name in wanted], arguments.seeds, arguments.processes):
        missed += found.seed is None
        where = "NOT FOUND" if found.seed is None else f"seed {found.seed}"
        sys.stdout.write(f"{mutant.name:32} {where:12} {found.seconds:7.1f} s  {found.checker or found.why}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(wanted) - missed} of {len(wanted)} found\n")
    if wanted is all_:
        sys.stdout.write(f"not hunted, for no seed is known: {', '.join(NOT_FOUND_YET)}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
