"""One CARP group (one VIP) on one controller, as a machine. Pure; time is handed in. Its states: carp_table.py.

The VIP is a lease in the kernel (`lease_s`), renewed each `renew_s`. Before each renewal the clock is compared: after
more than `stall_s` the lease may have ended and be another's, and a renewal would create the address anew. So the
machine goes to INIT and says so; a grant made after that is needed, and it is held back for one dead time of
listening, in which a successor's adverts would show that the grant is out of date.
"""

from __future__ import annotations

from collections import Counter
from math import inf

from middlewared.protocol import hub
from middlewared.protocol.carp_advskew import advskew
from middlewared.protocol.carp_election import PairedElection, PlainElection, Rank, Refusal
from middlewared.protocol.carp_messages import (
    Action,
    Announce,
    Condition,
    Contended,
    DropVip,
    Grant,
    Group,
    Message,
    Packet,
    Probe,
    RenewVip,
    Report,
    Revoke,
    SendAdvert,
    Sighted,
    Stalled,
    Start,
    TakeVip,
    Tick,
    Withdraw,
)
from middlewared.protocol.carp_packet import FAREWELL, Fault, Frame, Secret, decode, encode, router_of
from middlewared.protocol.carp_table import PAIRED, PLAIN, Deed, Signal, State

_OF_A_STRANGER = (Fault.VERSION, Fault.DIGEST)
_SIGNAL_OF = {Rank.BETTER: Signal.BETTER, Rank.WORSE: Signal.WORSE, Rank.LEAVING: Signal.LEAVING}

PROBE_AFTER_S, PROBE_EACH_S = 0.5, 2.0
"""How long after a takeover, and how often, the LAN is asked whether somebody else has the VIP."""

CONTENDER_GONE_S = 10.0
"""A contender who was not seen for so long is reported anew when it is back; until then it is only counted."""

ANNOUNCE_AGAIN_S = (0.1, 0.5, 1.0, 2.0)
"""After a takeover: one lost frame, a switch that is slow to learn, must not cost a client its connection."""


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
        self.conflicts = 0
        self._rejected: Counter[Fault | Refusal] = Counter()
        paired = isinstance(election, PairedElection)
        self._table = PAIRED if paired else PLAIN
        self._dead_s = group.dead_count * (group.interval_s if paired else group.advbase)
        self._dead_s += 0 if paired else group.advskew / 256
        self._secret = Secret(vhid=group.vhid, key=group.key, addresses=(group.address,))
        self._election = election
        self._paired = paired
        self._condition: Condition | None = None
        self._held_grant: Grant | None = None
        self._probation_until = now
        self._silent_at: float | None = None
        self._renewed_at = self._advert_at = self._answered_at = now
        self._probe_at = inf
        self._strangers, self._sighted_at = 0, -inf
        self._contender = ("", now)
        self._announce_at: tuple[float, ...] = ()

    def receive(self, message: Message, now: float) -> tuple[Action, ...]:
        """Take one message in. A stall is noticed first, and the message that was waiting is then not believed."""
        if self.state is State.MASTER and now - self._renewed_at > self.group.stall_s:
            return self._signal(Signal.STALL, f"no renewal for {now - self._renewed_at:.2f} s", now)
        match message:
            case Packet():
                return self._packet(message, now)
            case Tick():
                return self._tick(now)
            case Grant():
                return self._grant(message, now)
            case Revoke(term=term, why=why):
                self._election.learn(term)
                self._held_grant = None
                return self._signal(Signal.REVOKE, why, now)
            case Withdraw(why=why):
                self._held_grant = None
                return self._signal(Signal.WITHDRAW, why, now)
            case Contended(mac=mac, how=how):
                self.conflicts += 1
                before, seen_at = self._contender
                self._contender = (mac, now)
                new = before != mac or now - seen_at > CONTENDER_GONE_S
                return self._signal(Signal.CONTENDED, f"contended: {how} names {mac}" if new else "", now)
            case Condition():
                self._condition = message
                return ()
            case Start():
                return self._signal(Signal.START, "listening for a master", now)
            case Stalled(gap_s=gap_s):
                return self._signal(Signal.STALL, f"this process stood still for {gap_s:.2f} s", now)

    def deadline(self) -> float | None:
        """When `receive(Tick())` is due; None: not before another message."""
        if self.state is State.MASTER:
            return min(self._advert_at, self._renewed_at + self.group.renew_s, self._probe_at, *self._announce_at)
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
            rejected=self._rejected.total(),
            why=self.why,
            advskew=self.advskew,
            conflicts=self.conflicts,
            rejected_by={str(reason): count for reason, count in self._rejected.items()},
        )

    @property
    def advskew(self) -> int:
        """What the adverts say: between our two the condition of this controller, else what the election needs."""
        if self._condition is None:
            return self.group.advskew
        condition = self._condition
        return advskew(self.state, condition.node, demoted=condition.demoted, refused=condition.refused)

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
            self._rejected[frame] += 1
            return self._stranger(frame, packet, now) if frame in _OF_A_STRANGER else ()
        rank = self._election.judge(frame, packet.source, self.state is State.MASTER)
        if isinstance(rank, Refusal):
            self._rejected[rank] += 1
            return ()
        self.heard_at = now
        return self._signal(_SIGNAL_OF[rank], f"advert of {packet.source}, counter {frame.counter:#x}", now)

    def _stranger(self, fault: Fault, packet: Packet, now: float) -> tuple[Action, ...]:
        """A frame that is no advert of this group may be another router's."""
        router = (self.group.vhid, "CARP") if fault is Fault.DIGEST else router_of(packet.data, packet.ttl)
        if router is None:
            return ()
        self._strangers += 1
        if now < self._sighted_at + self.group.interval_s:
            return ()
        times, self._strangers, self._sighted_at = self._strangers, 0, now
        return (Sighted(packet.source, router[1], times),)

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
        if now >= self._probe_at:
            self._probe_at = now + PROBE_EACH_S
            actions.append(Probe())
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
                self._probe_at = now + PROBE_AFTER_S if self._paired else inf
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
            case Deed.DEFEND:
                return self._defend(why, now) if self._may_answer(now) else ()
            case Deed.PART:
                return (self._advert(now),)
            case Deed.BOW_OUT:
                return (self._advert(now, farewell=True),)

    def _answer(self, why: str, now: float) -> tuple[Action, ...]:
        self.rivals += 1
        return (self._advert(now), *self._defend(f"rival: {why}", now)) if self._may_answer(now) else ()

    def _may_answer(self, now: float) -> bool:
        """At most one answer an interval, or two rivals would talk each other to death."""
        return self.rivals + self.conflicts <= 1 or now >= self._answered_at + self.group.interval_s

    def _defend(self, why: str, now: float) -> tuple[Action, ...]:
        """Announce, and once more an interval later, for the case that this one is lost. why "": it was said before."""
        self._answered_at = now
        self._announce_at = tuple(sorted({*self._announce_at, now + self.group.interval_s}))
        return (Announce(), Report(why)) if why else (Announce(),)

    def _advert(self, now: float, *, farewell: bool = False) -> SendAdvert:
        self._advert_at = now + self.group.interval_s
        frame = Frame(
            vhid=self.group.vhid,
            advbase=FAREWELL if farewell else self.group.advbase,
            advskew=FAREWELL if farewell else self.advskew,
            counter=self._election.next_counter(now),
        )
        return SendAdvert(encode(frame, self._secret))
