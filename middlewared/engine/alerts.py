"""Since when each alert of this controller holds, and which ones somebody has read.

Pure: time is in the facts. What holds is judged anew at each look; nothing is told that is not so at that moment, and
an alert that ends and comes again is a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from middlewared.kernel.facts import Node
from middlewared.plugin import Alert, AlertSource, ControllerFacts


class _Held(msgspec.Struct, frozen=True):
    """since_s: by the clock of decisions; since_ns: by the wall."""

    since_s: float
    since_ns: int


class Alerts:
    """The alerts of one controller. Dismissals are by id, and may be of alerts that another controller tells."""

    def __init__(self, node: Node, sources: Iterable[AlertSource]) -> None:
        self._node: Node = node
        self._sources = tuple(sources)
        self._held: dict[str, _Held] = {}
        self._dismissed: set[str] = set()
        self._theirs: set[str] = set()

    def look(self, facts: ControllerFacts) -> list[Alert]:
        """What holds now and has held for long enough, oldest first."""
        before, self._held = self._held, {}
        told = []
        for source, id_, sentence in self._holding(facts):
            held = before.get(id_) or _Held(facts.uptime_s, facts.wall_ns)
            self._held[id_] = held
            if facts.uptime_s - held.since_s >= source.after_s:
                told.append((held.since_s, self._alert(source, id_, sentence, held)))
        self._dismissed -= before.keys() - self._held.keys()
        return [alert for _, alert in sorted(told, key=lambda pair: pair[0])]

    def joined(self, own: list[Alert], theirs: Iterable[Alert]) -> list[Alert]:
        """Both controllers' alerts, oldest first. Those of the other one are marked as read where they are so here."""
        marked = [msgspec.structs.replace(alert, dismissed=alert.id in self._dismissed) for alert in theirs]
        before, self._theirs = self._theirs, {alert.id for alert in marked}
        self._dismissed -= before - self._theirs
        return sorted([*own, *marked], key=lambda alert: alert.datetime["$date"])

    def dismiss(self, id_: str, *, dismissed: bool) -> None:
        """Have it told as read, or as unread again."""
        if dismissed:
            self._dismissed.add(id_)
        else:
            self._dismissed.discard(id_)

    def _holding(self, facts: ControllerFacts) -> Iterator[tuple[AlertSource, str, str]]:
        for source in self._sources:
            held = source.holds(facts)
            if isinstance(held, str):
                yield source, f"{source.klass}-{self._node}", held
            elif held is not None:
                for key, sentence in held.items():
                    yield source, f"{source.klass}-{self._node}-{key}", sentence

    def _alert(self, source: AlertSource, id_: str, sentence: str, held: _Held) -> Alert:
        return Alert(
            id=id_,
            klass=source.klass,
            level=source.level,
            node=self._node,
            text=source.title,
            formatted=sentence,
            datetime={"$date": held.since_ns // 1_000_000},
            dismissed=id_ in self._dismissed,
        )
