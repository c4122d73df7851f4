"""Who answers for the virtual IP, millisecond by millisecond, as the client sees it.

    with Watch(pair) as watch:
        watch.wait_for_owner("A")
        at_ns = time.time_ns()
        pair.freeze("A")
        watch.wait_for_owner("B")
        print(watch.change("A", "B", at_ns))

Runs `probe.py` in the client and keeps what it says. A controller that was booted meanwhile must be marked again.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import msgspec

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from middlewared.lab.faults import NODES
from middlewared.lab.layout import VIP
from middlewared.lab.probe import SAY_EACH_NS, Line

TTL: dict[Node, int] = {"A": 61, "B": 62}
FRESH_NS = 3 * SAY_EACH_NS
"""The owner answers now, if its last line is not older than this."""
OWNER_TIMEOUT_S = 10.0
_POLL_S = 0.005


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of owner. outage_ms: from the last reply of the old owner to the first of the new one.

    after_ms: from the fault to the first reply of the new one. double: replies of the old owner after that.
    """

    outage_ms: float
    after_ms: float
    double: int


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What the client saw since a moment, whoever answered.

    outage_ms: the longest time without a reply; one that still lasts counts up to now. answers: somebody does now.
    moved: the new owner answered. double: replies of the old owner after the new one's first.
    """

    outage_ms: float
    answers: bool
    moved: bool
    double: int


class Watch:
    """A running probe. Raises PortFailed where it does not start."""

    def __init__(self, pair: Pair, gap_ms: float = 3.0) -> None:
        self._pair = pair
        self._gap_ms = gap_ms
        self._lines: list[Line] = []

    def __enter__(self) -> Watch:
        for node in NODES:
            self.mark(node)
        argv = [sys.executable, "-m", "middlewared.lab.command", "exec", "client", "--dir", str(self._pair.layout.dir)]
        argv += ["--", sys.executable, "-m", "middlewared.lab.probe", "eth0", VIP, "--gap-ms", str(self._gap_ms)]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(5)

    def mark(self, node: Node) -> None:
        """Give the controller's replies its TTL; needed after each boot. One that is off is left alone."""
        if self._pair.root_pid(node):
            self._pair.run(node, "sh", "-c", f"echo {TTL[node]} > /proc/sys/net/ipv4/ip_default_ttl")

    @property
    def owner(self) -> Node | None:
        """Who answers now."""
        last = self._lines[-1] if self._lines else None
        if last is None or time.time_ns() - last.at_ns > FRESH_NS:
            return None
        return next((node for node in NODES if TTL[node] == last.ttl), None)

    def wait_for_owner(self, node: Node, within_s: float = OWNER_TIMEOUT_S) -> None:
        """Raises PortFailed when the node does not answer in time."""
        limit = time.monotonic() + within_s
        while self.owner != node:
            if time.monotonic() > limit:
                raise PortFailed(f"{node} answers for {VIP}", f"not within {within_s:g} s; {self._lines[-3:]}")
            time.sleep(_POLL_S)

    def change(self, old: Node, new: Node, since_ns: int) -> Change:
        """The first change from `old` to `new` after `since_ns`. Raises PortFailed when there is none."""
        for line in self._lines:
            if line.at_ns >= since_ns and (line.before_ttl, line.ttl) == (TTL[old], TTL[new]):
                return Change(
                    outage_ms=(line.at_ns - line.before_ns) / 1e6,
                    after_ms=(line.at_ns - since_ns) / 1e6,
                    double=self.replies(old) - line.counts[TTL[old]],
                )
        raise PortFailed(f"{VIP} moves from {old} to {new}", "the client saw no such change")

    def course(self, old: Node, new: Node, since_ns: int) -> Course:
        """What happened since `since_ns`, where the VIP may have moved from `old` to `new` or stayed."""
        return course_of(tuple(self._lines), TTL[old], TTL[new], since_ns, time.time_ns())

    def longest_silence_ms(self, since_ns: int) -> float:
        """0 when every silence was shorter than the gaps that the probe reports."""
        return _longest_silence_ns(self._lines, since_ns) / 1e6

    def replies(self, node: Node) -> int:
        """How many replies came from the node, up to at most 100 ms ago."""
        return self._lines[-1].counts.get(TTL[node], 0) if self._lines else 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(msgspec.json.decode(line, type=Line, strict=False))


def course_of(lines: Sequence[Line], old_ttl: int, new_ttl: int, since_ns: int, now_ns: int) -> Course:
    """The same from what the probe said until `now_ns`."""
    last = lines[-1] if lines else None
    first = next((line for line in lines if line.at_ns >= since_ns and line.ttl == new_ttl), None)
    answers = last is not None and now_ns - last.at_ns <= FRESH_NS
    silent_ns = 0 if answers else now_ns - max(last.at_ns if last else 0, since_ns)
    double = last.counts.get(old_ttl, 0) - first.counts.get(old_ttl, 0) if first and last else 0
    return Course(
        outage_ms=max(_longest_silence_ns(lines, since_ns), silent_ns) / 1e6,
        answers=answers,
        moved=first is not None,
        double=double,
    )


def _longest_silence_ns(lines: Sequence[Line], since_ns: int) -> int:
    return max((line.at_ns - line.before_ns for line in lines if line.at_ns >= since_ns and _tells(line)), default=0)


def _tells(line: Line) -> bool:
    return line.why in ("gap", "owner")
