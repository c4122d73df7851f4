"""Many seeds, and what they came to together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from middlewared.sim.world import Outcome, World


class Tally:
    """The sum over seeds. failed: the outcomes in which something was wrong."""

    def __init__(self) -> None:
        self.seeds = 0
        self.virtual_s = 0.0
        self.written = 0
        self.answered = 0
        self.faults: Counter[str] = Counter()
        self.pairs: set[tuple[str, str]] = set()
        self.failed: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.virtual_s += outcome.virtual_s
        self.written += outcome.written
        self.answered += outcome.answered
        self.faults.update(outcome.faults)
        self.pairs |= outcome.pairs
        if outcome.violations:
            self.failed.append(outcome)

    def lines(self, took_s: float) -> Iterable[str]:
        """For people. took_s: of real time."""
        yield (
            f"{self.seeds} seeds, {self.virtual_s / 3600:.2f} virtual hours, {self.seeds / took_s:.1f} seeds a second, "
            f"{self.virtual_s / took_s:.0f} times real time"
        )
        yield f"{self.answered} writes answered, {self.written} records, {sum(self.faults.values())} faults:"
        kinds = (f"{name} {count}" for name, count in sorted(self.faults.items()))
        yield "  " + ", ".join(kinds)
        yield f"{len(self.pairs)} (rule, phase) pairs met"
        yield f"{len(self.failed)} seeds with violations"


def replay(seed: int) -> str:
    """The command that lives through this seed again, with its trace."""
    return f"python -m middlewared.sim --seed {seed} --trace"


def live(seed: int) -> Outcome:
    """One seed, without keeping its trace."""
    return World(seed).run()
