"""What can happen to a CARP group, and what follows: the two tables that `CarpMachine` runs.

States. INIT: nobody may be believed (no word of fenced yet, none any more, or this process stood still). BACKUP: the
VIP is not ours, adverts are listened to. MASTER: the VIP is ours, as a lease.

PAIRED is the table between our two controllers. The owner of the term is decided elsewhere (fenced, on the shared
disks); this table only carries it out, so:
- MASTER comes from a grant alone. Silence of the peer, and its farewell, are reported and change nothing: no CARP frame
  moves a VIP here.
- MASTER ends with a revocation, with an authentic advert of a higher term, or with a stall of this process; never by
  absence of news, and never by an equal or lower term, which is counted and answered by our advert and an announcement.
- Nor does it end because somebody else says that the address is his: that is counted, and answered by an announcement.
PLAIN is the ordinary election with foreign routers: silence makes us master, the better advert makes us backup.

Not handled: preemption (a better backup waits for the master's silence), load balancing, several addresses a group.
Sources: carp(4), ip_carp.c; keepalived's `vrrp_higher_prio_send_advert` for the parting advert; RFC 5227 section 2.4.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias


class State(Enum):
    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"


class Signal(Enum):
    """Everything that can happen to a group."""

    GRANT = "granted"
    REVOKE = "revoked"
    WITHDRAW = "nobody to ask"
    START = "started"
    BETTER = "heard a better advert"
    WORSE = "heard a worse advert"
    LEAVING = "the master leaves"
    SILENCE = "the dead time ended"
    STALL = "stood still"
    CONTENDED = "somebody else has the address"


class Deed(Enum):
    """What a transition does, besides changing the state; `CarpMachine._perform` carries each out."""

    TAKE = "take the VIP, advertise, announce"
    DROP = "drop the VIP"
    LISTEN = "start the dead time anew"
    REPORT_SILENCE = "say that the peer is silent, once"
    ANSWER = "count the rival, advertise, announce"
    DEFEND = "announce, for those who believed somebody else"
    PROBATION = "listen for a dead time before any grant"
    PART = "advertise once more, so that the winner knows of a rival and announces"
    BOW_OUT = "advertise that no further advert comes"


Table: TypeAlias = dict[tuple[State, Signal], tuple[State, tuple[Deed, ...]]]

# What is not in a table changes nothing. (A master that is granted a further term stays master; its counter rises.)
PAIRED: Table = {
    (State.INIT, Signal.GRANT): (State.MASTER, (Deed.TAKE,)),
    (State.INIT, Signal.REVOKE): (State.BACKUP, (Deed.DROP, Deed.LISTEN)),
    (State.INIT, Signal.WITHDRAW): (State.INIT, (Deed.DROP,)),
    (State.INIT, Signal.STALL): (State.INIT, (Deed.PROBATION,)),
    (State.BACKUP, Signal.GRANT): (State.MASTER, (Deed.TAKE,)),
    (State.BACKUP, Signal.BETTER): (State.BACKUP, (Deed.LISTEN,)),
    (State.BACKUP, Signal.WORSE): (State.BACKUP, (Deed.LISTEN,)),
    (State.BACKUP, Signal.SILENCE): (State.BACKUP, (Deed.REPORT_SILENCE,)),
    (State.BACKUP, Signal.LEAVING): (State.BACKUP, (Deed.REPORT_SILENCE,)),
    (State.BACKUP, Signal.WITHDRAW): (State.INIT, (Deed.DROP,)),
    (State.BACKUP, Signal.STALL): (State.INIT, (Deed.PROBATION,)),
    (State.MASTER, Signal.WORSE): (State.MASTER, (Deed.ANSWER,)),
    (State.MASTER, Signal.BETTER): (State.BACKUP, (Deed.DROP, Deed.LISTEN)),
    (State.MASTER, Signal.CONTENDED): (State.MASTER, (Deed.DEFEND,)),
    (State.MASTER, Signal.REVOKE): (State.BACKUP, (Deed.DROP, Deed.BOW_OUT, Deed.LISTEN)),
    (State.MASTER, Signal.WITHDRAW): (State.INIT, (Deed.DROP, Deed.BOW_OUT)),
    (State.MASTER, Signal.STALL): (State.INIT, (Deed.DROP, Deed.PROBATION)),
}

PLAIN: Table = {
    (State.INIT, Signal.START): (State.BACKUP, (Deed.DROP, Deed.LISTEN)),
    (State.BACKUP, Signal.BETTER): (State.BACKUP, (Deed.LISTEN,)),
    (State.BACKUP, Signal.WORSE): (State.BACKUP, (Deed.LISTEN,)),
    (State.BACKUP, Signal.LEAVING): (State.MASTER, (Deed.TAKE,)),
    (State.BACKUP, Signal.SILENCE): (State.MASTER, (Deed.TAKE,)),
    (State.BACKUP, Signal.WITHDRAW): (State.INIT, ()),
    (State.BACKUP, Signal.STALL): (State.BACKUP, (Deed.LISTEN,)),
    (State.MASTER, Signal.WORSE): (State.MASTER, (Deed.ANSWER,)),
    (State.MASTER, Signal.BETTER): (State.BACKUP, (Deed.DROP, Deed.PART, Deed.LISTEN)),
    (State.MASTER, Signal.WITHDRAW): (State.INIT, (Deed.DROP, Deed.BOW_OUT)),
    (State.MASTER, Signal.STALL): (State.BACKUP, (Deed.DROP, Deed.LISTEN)),
}
