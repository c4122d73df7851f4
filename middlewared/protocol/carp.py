"""One CARP group (one VIP) on one controller: INIT, BACKUP, MASTER. Pure; time is handed in.

States. INIT: nobody may be believed (no word of fenced yet, none any more, or this process stood still). BACKUP: the
VIP is not ours, adverts are listened to. MASTER: the VIP is ours, as a lease.

PAIRED is the table between our two controllers. The owner of the term is decided elsewhere (fenced, on the shared
disks); this machine only carries it out, so:
- MASTER comes from a grant alone. Silence of the peer is reported, and changes nothing: no CARP frame moves a VIP here.
- MASTER ends with a revocation, with an authentic advert of a higher term, or with a stall of this process; never by
  absence of news, and never by an equal or lower term, which is counted and answered by our advert and an announcement.
- The VIP is a lease in the kernel (`lease_s`), renewed each `renew_s`. Before each renewal the clock is compared: after
  more than `stall_s` the lease may have ended and be another's, and a renewal would create the address anew. So the
  machine goes to INIT and says so; a grant made after that is needed, and it is held back for one dead time of
  listening, in which a successor's adverts would show that the grant is out of date.
PLAIN is the ordinary election with foreign routers: silence makes us master, the better advert makes us backup.

Not handled: preemption (a better backup waits for the master's silence), load balancing, several addresses a group.
Sources: carp(4), ip_carp.c; keepalived's `vrrp_higher_prio_send_advert` for the parting advert.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TypeAlias

import msgspec

from middlewared.protocol import hub
from middlewared.protocol.carp_election import PairedElection, PlainElection, Rank, Refusal
from middlewared.protocol.carp_packet import Fault, Frame, Secret, decode, encode


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


class Deed(Enum):
    """What a transition does, besides changing the state; `CarpMachine._perform` carries each out."""

    TAKE = "take the VIP, advertise, announce"
    DROP = "drop the VIP"
    LISTEN = "start the dead time anew"
    REPORT_SILENCE = "say that the peer is silent, once"
    ANSWER = "count the rival, advertise, announce"
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
    (State.BACKUP, Signal.WITHDRAW): (State.INIT, (Deed.DROP,)),
    (State.BACKUP, Signal.STALL): (State.INIT, (Deed.PROBATION,)),
    (State.MASTER, Signal.WORSE): (State.MASTER, (Deed.ANSWER,)),
    (State.MASTER, Signal.BETTER): (State.BACKUP, (Deed.DROP, Deed.LISTEN)),
    (State.MASTER, Signal.REVOKE): (State.BACKUP, (Deed.DROP, Deed.LISTEN)),
    (State.MASTER, Signal.WITHDRAW): (State.INIT, (Deed.DROP,)),
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

_SIGNAL_OF = {Rank.BETTER: Signal.BETTER, Rank.WORSE: Signal.WORSE, Rank.LEAVING: Signal.LEAVING}

ANNOUNCE_AGAIN_S = (0.1, 0.5, 1.0, 2.0)
"""After a takeover: one lost frame, a switch that is slow to learn, must not cost a client its connection."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one group. address: the VIP. advbase in seconds, advskew in 1/256 s.

    dead_count: how many missing intervals make silence; in plain mode it multiplies advbase only, as carp(4) has it.
    """

    vhid: int
    address: str
    key: bytes
    advbase: int
    advskew: int
    dead_count: int = 3
    lease_s: float = 1.0
    renew_s: float = 0.25
    stall_s: float = 0.75

    @property
    def interval_s(self) -> float:
        return self.advbase + self.advskew / 256


# What comes in.
class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """fenced: this controller owns `term`."""

    term: int


class Revoke(msgspec.Struct, frozen=True, kw_only=True):
    """fenced: this controller owns nothing; `term` is the highest known."""

    term: int
    why: str


class Withdraw(msgspec.Struct, frozen=True, kw_only=True):
    """There is nobody to ask any more, or the process ends."""

    why: str


class Start(msgspec.Struct, frozen=True):
    """Plain mode: take part in the election."""


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """The shell noticed that the process did not run for `gap_s`."""

    gap_s: float


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """What came after an IP header with protocol 112, and what that header said."""

    data: bytes
    ttl: int
    source: str


class Tick(msgspec.Struct, frozen=True):
    """The deadline has come, or may have."""


Message: TypeAlias = Grant | Revoke | Withdraw | Start | Stalled | Packet | Tick


# What comes out; to be carried out in order, at once.
class SendAdvert(msgspec.Struct, frozen=True):
    """The 36 bytes, to the group's multicast address with TTL 255."""

    data: bytes


class TakeVip(msgspec.Struct, frozen=True):
    lease_s: float


class RenewVip(msgspec.Struct, frozen=True):
    lease_s: float


class DropVip(msgspec.Struct, frozen=True):
    """Idempotent: there may be nothing to drop."""


class Announce(msgspec.Struct, frozen=True):
    """Gratuitous ARP, or unsolicited neighbour advertisement."""


class Report(msgspec.Struct, frozen=True):
    """Something to log and to tell fenced. stalled: fenced must be asked anew."""

    why: str
    stalled: bool = False


Action: TypeAlias = SendAdvert | TakeVip | RenewVip | DropVip | Announce | Report


class CarpMachine:
    """One door in, `receive`; values out. The caller carries the actions out in order and calls again at `deadline`.

    now is CLOCK_BOOTTIME in seconds, read before the message was looked at, and never goes back.
    """

    def __init__(self, group: Group, election: PairedElection | PlainElection, now: float) -> None:
        self.group = group
        self.state = State.INIT
        self.since = now
        self.why = "no word of fenced yet" if isinstance(election, PairedElection) else "starting"
        self.heard_at: float | None = None
        self.rivals = 0
        self.rejected: Counter[str] = Counter()
        paired = isinstance(election, PairedElection)
        self._table = PAIRED if paired else PLAIN
        self._dead_s = group.dead_count * (group.interval_s if paired else group.advbase)
        self._dead_s += 0 if paired else group.advskew / 256
        self._secret = Secret(vhid=group.vhid, key=group.key, addresses=(group.address,))
        self._election = election
        self._held_grant: Grant | None = None
        self._probation_until = now
        self._silent_at: float | None = None
        self._renewed_at = self._advert_at = self._answered_at = now
        self._announce_at: tuple[float, ...] = ()

    def receive(self, message: Message, now: float) -> tuple[Action, ...]:
        """Take one message in. A stall is noticed first, and the message that was waiting is then not believed."""
        if self.state is State.MASTER and now - self._renewed_at > self.group.stall_s:
            return self._signal(Signal.STALL, f"no renewal for {now - self._renewed_at:.2f} s", now)
        match message:
            case Tick():
                return self._tick(now)
            case Packet():
                return self._packet(message, now)
            case Grant():
                return self._grant(message, now)
            case Revoke(term=term, why=why):
                self._election.learn(term)
                self._held_grant = None
                return self._signal(Signal.REVOKE, why, now)
            case Withdraw(why=why):
                self._held_grant = None
                return self._signal(Signal.WITHDRAW, why, now)
            case Start():
                return self._signal(Signal.START, "listening for a master", now)
            case Stalled(gap_s=gap_s):
                return self._signal(Signal.STALL, f"this process stood still for {gap_s:.2f} s", now)

    def deadline(self) -> float | None:
        """When `receive(Tick())` is due; None: not before another message."""
        if self.state is State.MASTER:
            return min(self._advert_at, self._renewed_at + self.group.renew_s, *self._announce_at)
        if self.state is State.BACKUP:
            return self._silent_at
        return self._probation_until if self._held_grant else None

    def status(self) -> hub.CarpState:
        """What is told to people."""
        return hub.CarpState(
            vhid=self.group.vhid,
            address=self.group.address,
            state=self.state.value,
            since=self.since,
            rivals=self.rivals,
            rejected=self.rejected.total(),
            why=self.why,
        )

    # The messages that need more than one line.

    def _grant(self, grant: Grant, now: float) -> tuple[Action, ...]:
        if self.state is State.INIT and now < self._probation_until:
            self._held_grant = grant
            return ()
        self._held_grant = None
        refused = self._election.admit(grant.term)
        if refused:
            return (Report(refused),)
        return self._signal(Signal.GRANT, f"owner of term {grant.term}", now)

    def _packet(self, packet: Packet, now: float) -> tuple[Action, ...]:
        frame = decode(packet.data, packet.ttl, self._secret)
        if isinstance(frame, Fault):
            self.rejected[frame.value] += 1
            return ()
        rank = self._election.judge(frame, packet.source, self.state is State.MASTER)
        if isinstance(rank, Refusal):
            self.rejected[rank.value] += 1
            return ()
        self.heard_at = now
        return self._signal(_SIGNAL_OF[rank], f"advert of {packet.source}, counter {frame.counter:#x}", now)

    def _tick(self, now: float) -> tuple[Action, ...]:
        if self.state is State.MASTER:
            return self._duties(now)
        if self.state is State.BACKUP and self._silent_at is not None and now >= self._silent_at:
            return self._signal(Signal.SILENCE, f"no advert for {self._dead_s:.2f} s", now)
        if self._held_grant is not None and now >= self._probation_until:
            return self._grant(self._held_grant, now)
        return ()

    def _duties(self, now: float) -> tuple[Action, ...]:
        """What a master owes at this moment: the lease first."""
        actions: list[Action] = []
        if now >= self._renewed_at + self.group.renew_s:
            self._renewed_at = now
            actions.append(RenewVip(self.group.lease_s))
        if now >= self._advert_at:
            actions.append(self._advert(now))
        due = [at for at in self._announce_at if at <= now]
        if due:
            self._announce_at = tuple(at for at in self._announce_at if at > now)
            actions.append(Announce())
        return tuple(actions)

    # The table, and what its words mean.

    def _signal(self, signal: Signal, why: str, now: float) -> tuple[Action, ...]:
        row = self._table.get((self.state, signal))
        if row is None:
            return ()
        state, deeds = row
        actions: list[Action] = []
        if state is not self.state:
            actions.append(Report(f"{self.state.value} -> {state.value}: {why}", stalled=signal is Signal.STALL))
            self.state, self.since, self.why = state, now, why
        for deed in deeds:
            actions += self._perform(deed, why, now)
        # The report goes last: nothing that matters waits for a log to be written.
        return tuple(sorted(actions, key=lambda action: isinstance(action, Report)))

    def _perform(self, deed: Deed, why: str, now: float) -> tuple[Action, ...]:
        match deed:
            case Deed.TAKE:
                self._renewed_at = now
                self._announce_at = tuple(now + again for again in ANNOUNCE_AGAIN_S)
                return TakeVip(self.group.lease_s), self._advert(now), Announce()
            case Deed.DROP:
                self._announce_at = ()
                return (DropVip(),)
            case Deed.LISTEN:
                self._silent_at = now + self._dead_s
                return ()
            case Deed.REPORT_SILENCE:
                self._silent_at = None
                return (Report(f"peer silent: {why}"),)
            case Deed.PROBATION:
                self._probation_until = now + self._dead_s
                return ()
            case Deed.ANSWER:
                return self._answer(why, now)
            case Deed.PART:
                return (self._advert(now),)
            case Deed.BOW_OUT:
                return (self._advert(now, advbase=255, advskew=255),)

    def _answer(self, why: str, now: float) -> tuple[Action, ...]:
        """At most one answer an interval, or two rivals would talk each other to death; an announcement follows."""
        self.rivals += 1
        if self.rivals > 1 and now < self._answered_at + self.group.interval_s:
            return ()
        self._answered_at = now
        self._announce_at = tuple(sorted({*self._announce_at, now + self.group.interval_s}))
        return self._advert(now), Announce(), Report(f"rival: {why}")

    def _advert(self, now: float, advbase: int | None = None, advskew: int | None = None) -> SendAdvert:
        self._advert_at = now + self.group.interval_s
        frame = Frame(
            vhid=self.group.vhid,
            advbase=self.group.advbase if advbase is None else advbase,
            advskew=self.group.advskew if advskew is None else advskew,
            counter=self._election.next_counter(now),
        )
        return SendAdvert(encode(frame, self._secret))
