"""Which networks a controller has lost: failover groups, each lost when all its members are down.

The page's rule ("Failover group"): a group fails only when every member fails; an interface alone in its group fails
alone; whoever wants a failover at the first of several puts each in a group of its own. A controller's groups are its
own: the two controllers' members are never counted together.

Without any critical interface each interface with a VIP is a group of its own: a VIP that nobody can reach is no VIP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from middlewared.kernel.facts import FailoverGroup, Vip


def effective(groups: Sequence[FailoverGroup], vips: Sequence[Vip]) -> tuple[FailoverGroup, ...]:
    """The groups that count: those configured, else one for each interface with a VIP, numbered from 1."""
    if groups:
        return tuple(groups)
    interfaces = sorted({vip.interface for vip in vips})
    return tuple(FailoverGroup(number=n, interfaces=(name,)) for n, name in enumerate(interfaces, 1))


def lost(groups: Sequence[FailoverGroup], is_up: Callable[[str], bool]) -> tuple[FailoverGroup, ...]:
    """The groups of which no member is up."""
    return tuple(group for group in groups if group.interfaces and not any(map(is_up, group.interfaces)))
