"""What a controller's adverts say of its condition, in the field advskew. Between our two nothing is decided by it.

Whoever looks at the wire (tcpdump, a switch, support) reads the state of the sender:

      1   active
     20   standby, controller A       80   standby, controller B    (what it would say; a standby does not advertise)
    100   demoted: a failover group is lost, or failover is disabled
    201   the system refused to hold the VIP
    240   nobody to ask who owns
    255   leaves: no further advert comes

Foreign routers in an ordinary election would see the same order: the lower one is the better master.
Source: the values of TrueNAS 12.0 (`advskew` 1, 20, 80, 100, faults above 200); 255 as OpenBSD's ip_carp.c has it.
"""

from __future__ import annotations

from middlewared.kernel.facts import Node
from middlewared.protocol.carp_table import State

ACTIVE = 1
IDLE: dict[Node, int] = {"A": 20, "B": 80}
DEMOTED = 100
REFUSED = 201
NOBODY_TO_ASK = 240


def advskew(state: State, node: Node, *, demoted: bool, refused: bool) -> int:
    """refused: what the machine wants of the kernel was not done."""
    if refused:
        return REFUSED
    if state is State.INIT:
        return NOBODY_TO_ASK
    if demoted:
        return DEMOTED
    return ACTIVE if state is State.MASTER else IDLE[node]
