"""The outside, as Protocols: each has a real backend, and each names the purpose when it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from middlewared.kernel.audit import Event, Filter, Kept
from middlewared.kernel.facts import FailoverGroup, HostLink, Node, PairRecord, PoolName, Vip, Voting
from middlewared.kernel.pools import Dataset, Disk, Found, Health, Imported, Layout, Scan
from middlewared.kernel.register import Answer, Denied, Granted, Holding, Refused, Silent, Whose
from middlewared.kernel.secret import KeyBundle, Sealed
from middlewared.kernel.upkeep import LogCheck, Saved

__all__ = ["Answer", "Clock", "Denied", "Granted", "Holding", "Host", "Power", "Reservation", "Silent", "Voter"]


class Clock(Protocol):
    """Time. Decisions use boottime(); wall_ns() is data for people."""

    def boottime(self) -> float:
        """Seconds since boot, suspend included (CLOCK_BOOTTIME)."""
        ...

    def wall_ns(self) -> int: ...


class Reservation(Protocol):
    """One shared disk's register, which grants each term once, and lets nobody but its holder write the disk.

    No method raises; every one answers within its deadline.
    """

    name: str

    async def read(self) -> Holding | Silent: ...

    async def claim(self, node: Node, term: int, over: Holding) -> Answer:
        """Take the register for `term`, from the holder that was read (or from nobody).

        Granted only if the term is above the one it holds and the holder is still the one named by `over`.
        """
        ...

    async def release(self, node: Node, term: int) -> Answer:
        """Free the register if it is `node`'s in `term`. The term it holds stays."""
        ...


class Slots(Protocol):
    """The slot area of a shared disk: what its holder writes there, and whoever reads.

    No method raises; every one answers within its deadline. Only the disk itself refuses: see Voter for what it must.
    """

    async def write_record(self, record: PairRecord) -> Refused | Silent | None:
        """Durable before None is answered. Refused where a later record is there as well."""
        ...

    async def read_record(self) -> PairRecord | Silent | None:
        """Silent where nobody knows whether one was ever written."""
        ...

    async def beat(self, node: Node, term: int, count: int) -> Refused | Silent | None: ...

    async def read_beat(self) -> int | Silent: ...

    async def whose(self) -> Whose | Silent:
        """Who wrote what is there."""
        ...


class Voter(Reservation, Protocol):
    """A shared disk that may vote: its register, and two small slots that only the holder writes.

    keeps: where record and heartbeat are, for status.
    """

    @property
    def keeps(self) -> str: ...

    async def write_record(self, node: Node, record: PairRecord) -> Answer:
        """Write the record; only its holder, in the term it holds. Durable before it is granted."""
        ...

    async def read_record(self) -> PairRecord | Silent | None: ...

    async def beat(self, node: Node, term: int, count: int) -> Answer:
        """Write the heartbeat; only the holder, in the term it holds. Need not be durable."""
        ...

    async def read_beat(self) -> int | Silent:
        """The last heartbeat's count; 0 where none was ever written."""
        ...

    async def whose(self) -> Whose | Silent:
        """Who wrote what is where record and heartbeat are."""
        ...


class Power(Protocol):
    """The other controller's power, by its management controller. No method raises; each ends within a deadline."""

    async def power_off(self) -> str | None:
        """Cut its power. None: it was confirmed to be off; otherwise why that is not known.

        It may get power again afterwards, and then boots.
        """
        ...

    async def is_on(self) -> bool | Silent: ...


class Fence(Protocol):
    """What fenced and carpd must know of the configuration. Each call states the whole."""

    async def set_vips(self, vips: Sequence[Vip], groups: Sequence[FailoverGroup] = (), *, lagg: bool = False) -> None:
        """groups: the critical interfaces. Without any, each interface with a VIP counts for itself.

        lagg: one of those that count is an aggregate, which takes a moment to find its members again.
        """
        ...

    async def set_policy(self, *, disabled: bool, default_node: Node, timeout_s: float, voting: Voting) -> None:
        """default_node: who claims when both are there and none owns. timeout_s: how long a lost network may last."""
        ...

    async def set_pools(self, pools: Sequence[PoolName]) -> None:
        """The pools that are configured: an owner must have imported them before it serves."""
        ...


class Host(Protocol):
    """This controller's own name service files, host name, default routes and interfaces."""

    async def set_hostname(self, hostname: str) -> None: ...

    async def write_resolv_conf(self, nameservers: Sequence[str], search: Sequence[str]) -> None: ...

    async def write_hosts(self, hostname: str, domain: str, lines: Sequence[str]) -> None: ...

    async def set_default_route(self, family: Literal[4, 6], gateway: str | None) -> None:
        """None takes away a route that was set here before, and no other."""
        ...

    async def nameservers(self) -> Sequence[str]:
        """What resolv.conf says at this moment."""
        ...

    async def default_route(self, family: Literal[4, 6]) -> str | None: ...

    async def interfaces(self) -> Sequence[HostLink]:
        """Those that the controller has, by name."""
        ...

    async def set_addresses(self, wanted: Mapping[str, Sequence[tuple[str, int]]]) -> None:
        """Interface -> (address, prefix length) of each. States the whole: what was set here before and is not in it,
        goes. What others set is left alone until it is named. Raises PortFailed, when everything else was done, for an
        interface that is not there.
        """
        ...


class Jobs(Protocol):
    """The jobs of this controller."""

    def views(self, username: str | None, roles: frozenset[str]) -> Sequence[Mapping[str, object]]:
        """What a client of that name and those roles may see, oldest first, as clients read it."""
        ...

    def view(self, id: int) -> Mapping[str, object]:  # noqa: A002
        """One job. Raises CallFailed when there is no such job, or none any longer."""
        ...

    def abort(self, id: int) -> None:  # noqa: A002
        """End a job, and what it started. Raises CallFailed when there is none, or it cannot be ended."""
        ...

    async def wait(self, id: int, timeout_s: float) -> Mapping[str, object]:  # noqa: A002
        """The job when it is over, or as it is after `timeout_s`."""
        ...


class Upkeep(Protocol):
    """Looks after this controller's files, in processes of their own: nothing waits for it but who asked."""

    async def save_config(self, progress: Callable[[float, str], None]) -> Saved:
        """Make a backup in the data directory. progress: (percent, how far). Raises CallFailed."""
        ...

    async def verify_log(self, progress: Callable[[float, str], None]) -> LogCheck:
        """Walk the whole log. progress: (percent, how far). Raises CallFailed when it cannot be read."""
        ...


class Audit(Protocol):
    """What happened on this controller, newest first."""

    async def rows(self, wanted: Filter, before: int | None, limit: int) -> Sequence[Kept]:
        """Notes beside the log, below id `before`. Raises PortFailed, LogDamaged."""
        ...

    async def events(self, wanted: Filter, before: int | None, limit: int) -> Sequence[Event]:
        """Applied events of the log, below seq `before`, with what they changed. Raises PortFailed, LogDamaged."""
        ...


class SecretStore(Protocol):
    """The keys of this controller, and what they close. Keys lie outside the log; envelopes are in it.

    Everything raises PortFailed: a key that is not held, an envelope that is not what was closed there, a file.
    """

    def ids(self) -> tuple[str, ...]:
        """The ids of the keys that are held, sorted."""
        ...

    @property
    def active(self) -> str | None:
        """The key that closes new envelopes; None before the first."""
        ...

    def bundle(self) -> KeyBundle | None:
        """The keys themselves, for the other controller and nobody else."""
        ...

    async def seal(self, noun: str, field: str, text: str, kid: str | None = None) -> Sealed:
        """Close `text` into an envelope for this field of this noun. kid None: under the active key."""
        ...

    async def open(self, noun: str, field: str, sealed: Sealed) -> str: ...

    async def add_key(self) -> str:
        """Draw a key and keep it; it is not used before `activate`. Returns its id."""
        ...

    async def activate(self, kid: str) -> None: ...

    async def merge(self, bundle: KeyBundle) -> None:
        """Hold these keys too, and use the one that is active there."""
        ...

    async def drop(self, kid: str) -> None:
        """Forget a key that is not active: what it closed cannot be opened any more."""
        ...


class Disks(Protocol):
    """The shared disks, as this controller sees them."""

    async def list(self) -> Sequence[Disk]:
        """Every disk that answers at this moment."""
        ...


class PoolStore(Protocol):
    """ZFS on this controller. It imports nothing by itself, ever.

    Everything raises PortFailed with what ZFS said. Whatever changes a pool is for the owner of the term only, and may
    still happen after it failed, or was cancelled: ask again what is so.
    """

    async def imported(self) -> Sequence[Imported]: ...

    async def found(self) -> Sequence[Found]:
        """The pools on the shared disks that are not imported here."""
        ...

    async def import_pool(self, guid: str, *, force: bool = False) -> None:
        """Import a pool and mount it below /mnt, and see that it is; else it is exported again.

        force: also one that nobody exported.

        Never force unless whoever had it cannot write the disks any more: ZFS tells a dead owner from none by nothing,
        and both would go on to write it, until a scrub finds it destroyed.
        """
        ...

    async def export_pool(self, name: str, *, force: bool = False) -> None:
        """Unmount and export, and prove that it is gone. force: also from under those who have files open."""
        ...

    async def create(self, name: str, layout: Layout, *, force: bool = False) -> str:
        """Make a pool, imported, mounted at /mnt/NAME. Returns its guid. force: over what the disks hold."""
        ...

    async def destroy(self, name: str) -> None:
        """Destroy an imported pool with everything in it."""
        ...

    async def health(self, name: str) -> Health: ...

    async def scrub(self, name: str, *, stop: bool = False) -> None:
        """Start a scrub, from the beginning, or stop the one that runs."""
        ...

    async def scan_over(self, name: str, told: Callable[[Scan], None]) -> Scan:
        """Wait until no scrub or resilver runs. told: how far it is, now and then."""
        ...

    async def datasets(self, pool: str) -> Sequence[Dataset]:
        """The pool's own dataset first, then those below it."""
        ...

    async def create_dataset(self, id: str, properties: Mapping[str, str]) -> None:  # noqa: A002
        ...

    async def set_dataset(self, id: str, properties: Mapping[str, str | None]) -> None:  # noqa: A002
        """None: inherit it again."""
        ...

    async def destroy_dataset(self, id: str, *, recursive: bool = False) -> None:  # noqa: A002
        """recursive: with what is below it, and its snapshots."""
        ...


class OwnedPools(PoolStore, Protocol):
    """Pools as plugins are given them: an owner imports by itself what is missing, and nothing that they exported."""

    def want_again(self, guid: str) -> None:
        """An exported pool that stays configured, since the log did not take it out: it is imported as any other."""
        ...
