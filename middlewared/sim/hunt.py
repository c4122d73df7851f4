"""`python -m middlewared.sim.hunt`: looks for the first seed that finds each seeded bug; exit 1 when one was not found.

A mutant is put in place in the memory of a child process as the module is imported; the tree is never touched. The
child lives through seeds until a checker says that something is wrong.
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
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

from middlewared.sim.mutants import MUTANTS, QUICK, Mutant

SEEDS = 10_000
PER_MUTANT_S = 1800.0
ROOT = Path(__file__).parent.parent.parent
NAMED = {mutant.name: mutant for mutant in MUTANTS}


class Found(NamedTuple):
    """seed: the first that found it, None: none did. seconds: of the whole hunt."""

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
    command = [sys.executable, "-m", "middlewared.sim.hunt", "--hunt", mutant.name, "--seeds", str(seeds)]
    began = time.monotonic()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PER_MUTANT_S, check=False)
    except subprocess.TimeoutExpired:
        return Found(None, "", f"not within {PER_MUTANT_S:g} s", PER_MUTANT_S)
    if done.returncode != 0:
        why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it died"
        return Found(None, "", why, time.monotonic() - began)
    found = Found(*json.loads(done.stdout))
    if found.seed is not None and not _clean(found.seed):
        return Found(None, "", f"seed {found.seed} goes wrong without it, too", time.monotonic() - began)
    return found


def _clean(seed: int) -> bool:
    """Nothing is wrong at this seed in the tree as it is."""
    command = [sys.executable, "-m", "middlewared.sim", "--seed", str(seed)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PER_MUTANT_S, check=False).returncode == 0


def hunt_all(mutants: Sequence[Mutant], seeds: int, processes: int) -> Iterator[tuple[Mutant, Found]]:
    """Every mutant, so many at a time, in the order in which the hunts end."""
    with ThreadPoolExecutor(processes) as pool:
        hunts = {pool.submit(hunt_in_a_child, mutant, seeds): mutant for mutant in mutants}
        for done in as_completed(hunts):
            yield hunts[done], done.result()


def main(argv: Sequence[str] | None = None) -> int:
    """0: every mutant was found."""
    parser = argparse.ArgumentParser(prog="python -m middlewared.sim.hunt", description="Finds seeded bugs")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many at most for each")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only the few that are found soonest")
    parser.add_argument("--only", action="append", choices=sorted(NAMED), metavar="NAME", help="only these")
    parser.add_argument("--hunt", choices=sorted(NAMED), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.hunt:
        sys.stdout.write(json.dumps(hunt(NAMED[arguments.hunt], arguments.seeds)))
        return 0
    wanted = [NAMED[name] for name in arguments.only or (QUICK if arguments.quick else NAMED)]
    began, missed, lived = time.monotonic(), 0, 0
    for mutant, found in hunt_all(wanted, arguments.seeds, arguments.processes):
        missed += found.seed is None
        lived += arguments.seeds if found.seed is None else found.seed + 1
        where = "NOT FOUND" if found.seed is None else f"seed {found.seed}"
        _say(f"{mutant.name:32} {where:10} {found.seconds:7.1f} s  {found.checker or found.why}")
    _say(f"{len(wanted) - missed} of {len(wanted)} found, {lived} seeds, {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
