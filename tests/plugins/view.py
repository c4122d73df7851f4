"""What effects see, in memory: a state of some nouns, a host and a fence that keep what they were told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from middlewared.engine.registry import Registry
from middlewared.engine.standin_parts import MemoryAside, MemoryHost
from middlewared.kernel.facts import FailoverGroup, Node, PoolName, Vip, Voting
from middlewared.plugin import Aside, Noun
from middlewared.ports import Fence, Host

S = TypeVar("S", bound=msgspec.Struct)


class MemoryFence:
    """ports.Fence: keeps what was said last."""

    def __init__(self) -> None:
        self.vips: list[Vip] | None = None
        self.groups: list[FailoverGroup] = []
        self.lagg = False
        self.policy: tuple[bool, Node, float] | None = None
        self.voting: Voting | None = None
        self.pools: list[PoolName] | None = None

    async def set_vips(self, vips: Sequence[Vip], groups: Sequence[FailoverGroup] = (), *, lagg: bool = False) -> None:
        self.vips, self.groups, self.lagg = list(vips), list(groups), lagg

    async def set_policy(self, *, disabled: bool, default_node: Node, timeout_s: float, voting: Voting) -> None:
        self.policy = (disabled, default_node, timeout_s)
        self.voting = voting

    async def set_pools(self, pools: Sequence[PoolName]) -> None:
        self.pools = list(pools)


class MemoryView:
    """plugin.View. set: give a noun another state than its initial one."""

    def __init__(self, node: Node = "A") -> None:
        self.node: Node = node
        self.kept = MemoryHost()
        self.told = MemoryFence()
        self.host: Host = self.kept
        self.fence: Fence = self.told
        self.set_aside = MemoryAside(Registry(()), {})
        self.aside: Aside = self.set_aside
        self._states: dict[str, Any] = {}

    def set(self, noun: Noun[S], state: S) -> None:
        self._states[noun.name] = state

    def state(self, noun: Noun[S]) -> S:
        state: S = self._states.get(noun.name, noun.initial)
        return state
