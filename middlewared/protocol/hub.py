"""What fenced, carpd and middlewared tell each other, over the SEQPACKET socket `fenced.sock` in the run directory.

One message a packet, JSON with a tag. fenced is the hub: it alone knows who owns the term, and hands the settings that
middlewared gives it on to carpd, so that a carpd which restarts needs no middlewared to be up. Everything is a whole
statement, never a difference: the newest message of a kind is the truth, and a process that (re)connects is sent all
of them again.

    middlewared -> fenced   Hello, Settings, Begin, Force, Write, Pools, Serve, Block, Resign, End
    carpd       -> fenced   Hello, Heard, Carp
    fenced      -> both     Standing
    fenced      -> carpd    Settings
    fenced      -> middlewared   Written, Carp, Seen

Times are CLOCK_BOOTTIME seconds of this controller; all three processes share it. They never leave the controller.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from middlewared.kernel.facts import FailoverGroup, LinkState, Node, PairRecord, Sighting, Vip, VipState, Voting


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The first packet of a client: which of the two it is."""

    who: Literal["carpd", "middlewared"]
    pid: int


class Settings(msgspec.Struct, frozen=True, kw_only=True, tag="settings"):
    """What the configuration says to the two small processes.

    paired: False = never paired, no HA; then fenced stands SINGLE in the term `single_term`.
    key: the cluster's key; carpd derives one for adverts and one for heartbeats from it.
    disabled: failover is switched off: nobody claims of itself.
    default_node: who claims when both are there and none owns.
    timeout_s: how long a lost network must stay lost before a handover. lagg: some critical interface is an aggregate.
    groups: the critical interfaces; without any, each interface with a VIP is a group of its own.
    pools: some pool is configured, so that an owner serves only once middlewared has imported it.
    voting: the disks that vote, where they were ever configured.
    """

    paired: bool
    cluster_id: str
    key: bytes
    disabled: bool
    default_node: Node
    timeout_s: float
    single_term: int
    vips: tuple[Vip, ...]
    groups: tuple[FailoverGroup, ...] = ()
    pools: bool = False
    lagg: bool = False
    voting: Voting | None = None


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """middlewared started (again): if this controller owns, it must own in a new term. Answer: Standing."""


class Force(msgspec.Struct, frozen=True, kw_only=True, tag="force"):
    """failover.force_master: claim although the rules would wait or refuse. Answered by Standing."""


class Pools(msgspec.Struct, frozen=True, kw_only=True, tag="pools"):
    """The pools that this controller has, or is about to have, imported: said before an import, and after an export.

    imported: their guids. fault: why one of them cannot be written (suspended, its disks gone), None while all can.
    A controller that has pools never owns no more and lives on: fenced ends it.
    """

    imported: tuple[str, ...] = ()
    fault: str | None = None


class Serve(msgspec.Struct, frozen=True, kw_only=True, tag="serve"):
    """What an owner of `term` needs before clients may come is there: its pools are imported."""

    term: int


class Block(msgspec.Struct, frozen=True, kw_only=True, tag="block"):
    """Keep clients out while still owning `term`: the VIPs go down, the reservation stays. Undone by Serve."""

    term: int
    why: str


class Resign(msgspec.Struct, frozen=True, kw_only=True, tag="resign"):
    """Give the term up in good order: VIP down, reservation released. Refused while a pool is imported.

    why: for the log and for status. failed: what the term was taken for could not be done here, so that this
    controller is not the one to try next.
    """

    why: str
    failed: bool = False


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """End this controller at once, with the reservation kept: a pool could not be given up in good order."""

    why: str


class Write(msgspec.Struct, frozen=True, kw_only=True, tag="write"):
    """Write the record, in the current term only. Answered by Written with the same id."""

    id: int
    record: PairRecord


class Written(msgspec.Struct, frozen=True, kw_only=True, tag="written"):
    """ok: a majority of the voters holds the record. Otherwise why says which refused or were silent."""

    id: int
    ok: bool
    why: str = ""


class PeerWord(msgspec.Struct, frozen=True, kw_only=True, tag="peer"):
    """What the peer said of itself in its last authentic interlink heartbeat.

    owner: it holds the term. term: the highest it knows. links_up: no failover group is lost there.
    hears_us: it heard our heartbeat lately (both directions work). settled: it may claim if nobody owns.
    resigned: it gave its term up and asks us to take it. disks_ok: it reads a majority of the shared disks and knows of
    no pool whose own it lacks. failed: a promotion failed there lately. held: it claims only when it is forced.
    flapping: by its count the term moved too often. voting: the number of the voters that it has taken up.
    """

    boot_id: str
    term: int
    owner: bool
    links_up: bool
    hears_us: bool
    settled: bool
    resigned: bool
    disks_ok: bool = True
    failed: bool = False
    held: bool = False
    flapping: bool = False
    voting: int = 0


class Heard(msgspec.Struct, frozen=True, kw_only=True, tag="heard"):
    """Signs of the peer's life that carpd saw, and the state of our own links.

    *_at: when the last authentic one came; None: never since carpd started (see since).
    carrier: of the interlink; carrier_since: when it last changed.
    links_up: no failover group is lost; links_since: when that last changed. links: each interface that counts.
    peer: what the last heartbeat said.
    """

    since: float
    interlink_at: float | None
    advert_at: float | None
    carrier: bool
    carrier_since: float
    links_up: bool
    links_since: float
    peer: PeerWord | None
    links: tuple[LinkState, ...] = ()


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag="seen"):
    """What fenced decided upon `at`, for the explanation of it: a failover_view.View as JSON, beside each Standing."""

    at: float
    view: msgspec.Raw


CarpState: TypeAlias = VipState


class Carp(msgspec.Struct, frozen=True, kw_only=True, tag="carp"):
    """The state of every VIP; sent at each change. scheduling: what real-time treatment carpd got.

    sightings: strangers who were seen lately.
    """

    vips: tuple[CarpState, ...]
    scheduling: str
    sightings: tuple[Sighting, ...] = ()


Role: TypeAlias = Literal["WAITING", "SINGLE", "OWNER", "STANDBY"]


class VoterState(msgspec.Struct, frozen=True, kw_only=True):
    """One shared disk as fenced last saw it. owner None: free; reachable False: the rest is old.

    sets: of voters to which it belongs, by number (protocol/quorum.py): one, or two while they are being changed.
    keeps: where its record and heartbeat are. whose: the slots on it are, "" where that is not known: slots_error says
    why they cannot be read, or is "" where they were not looked at. why: it is not reachable.
    """

    name: str
    reachable: bool
    term: int
    owner: Node | None
    sets: tuple[int, ...] = (0,)
    keeps: str = "register"
    whose: str = ""
    slots_error: str = ""
    why: str = ""


class PowerOff(msgspec.Struct, frozen=True, kw_only=True):
    """What became of cutting the peer's power. why: where it was not confirmed."""

    confirmed: bool
    why: str


class Fencing(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the peer can still write a shared disk. fenced: it cannot, so that an import may be forced.

    disks, reachable, held: how many there are, that answer here, and that this owner holds in its term. power: of the
    peer, None where it was not asked for.
    """

    fenced: bool
    disks: int
    reachable: int
    held: int
    power: PowerOff | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """That this controller ended itself. wall_ns: when, for people."""

    wall_ns: int
    why: str


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """That this controller ceased to own `term`, when, and by which rule."""

    term: int
    at: float
    rule: str
    why: str


class Standing(msgspec.Struct, frozen=True, kw_only=True, tag="standing"):
    """Where this controller stands; sent at each change and on connecting.

    role: WAITING = no settings yet, or booting and not settled. term: the highest term known; as OWNER, ours.
    why: one sentence, from the rule that decided. record: as read at the last claim or by the standby since.
    peer_*_at: last sign of the peer by each channel, None = never.
    resigned: we gave the term up and the peer has not taken it yet. said_at: when fenced saw it so; 0: unknown.
    serves: clients may come; False for an owner whose pools are not imported yet, or that keeps clients out.
    leaving: why the rules want this owner to hand over; middlewared exports the pools and then resigns. leaves_by: by
    which rule.
    failed: why this controller could not do what it last took a term for, while that holds it back.
    disks_ok, held, flapping: as the peer is told of this controller (PeerWord).
    fencing: of the peer, while owning. ended: what led to this boot, where this controller ended itself.
    decided_at, last_sign_at: when the claim of this ownership was decided, and the peer's last sign before it.
    lost: how the last ownership ended that this fenced had; told as well where the decision was not said at once.
    others: the shared disks that do not vote. voting: the number of the voters that this fenced has taken up;
    peer_voting: and the peer's, None while it is not heard.
    """

    role: Role
    term: int
    since: float
    said_at: float = 0.0
    why: str
    rule: str
    record: PairRecord | None
    voters: tuple[VoterState, ...]
    peer_interlink_at: float | None
    peer_advert_at: float | None
    peer_disk_at: float | None
    settled: bool
    resigned: bool
    scheduling: str
    serves: bool = False
    leaving: str | None = None
    leaves_by: str = ""
    failed: str | None = None
    disks_ok: bool = True
    held: bool = False
    flapping: bool = False
    fencing: Fencing | None = None
    ended: Ended | None = None
    decided_at: float | None = None
    last_sign_at: float | None = None
    lost: Lost | None = None
    others: tuple[VoterState, ...] = ()
    voting: int = 0
    peer_voting: int | None = None

    @property
    def peer_heard(self) -> bool:
        """Whether the peer's heartbeats came in when this was said; it is said anew when that changes."""
        return self.peer_voting is not None

    @property
    def fenced(self) -> bool:
        """Whether a pool may be imported by force."""
        return self.fencing is not None and self.fencing.fenced


ToFenced: TypeAlias = Hello | Settings | Begin | Force | Write | Pools | Serve | Block | Resign | End | Heard | Carp
FromFenced: TypeAlias = Standing | Seen | Settings | Written | Carp

_to_fenced: msgspec.json.Decoder[ToFenced] = msgspec.json.Decoder(ToFenced)
_from_fenced: msgspec.json.Decoder[FromFenced] = msgspec.json.Decoder(FromFenced)

MAX_PACKET = 128 * 1024


def encode(message: ToFenced | FromFenced) -> bytes:
    return msgspec.json.encode(message)


def decode_to_fenced(packet: bytes) -> ToFenced:
    """Raises msgspec.DecodeError for a packet of the wrong form."""
    return _to_fenced.decode(packet)


def decode_from_fenced(packet: bytes) -> FromFenced:
    """Raises msgspec.DecodeError for a packet of the wrong form."""
    return _from_fenced.decode(packet)
