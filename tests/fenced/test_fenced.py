"""Two real fenced on a real shelf: who owns after what."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from middlewared.protocol import hub
from tests.fenced.conftest import FENCED, HELD_S, LEASE_S, SETTLE_S, Controller, World, boottime, holds_for, until


async def _holders(world: World) -> set[str | None]:
    disks = (await world.shelf(verb="state"))["disks"]
    return {disk["owner"] for disk in disks}  # type: ignore[attr-defined]


def terms(controller: Controller) -> list[int]:
    """The terms that the controller owned, as it said them."""
    return [s.term for s in controller.seen if s.role == "OWNER"]


def bare_start() -> float:
    """How long the interpreter alone takes on this machine at this moment, with the one import that all need."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import asyncio"], check=True, timeout=30)
    return time.monotonic() - began


class TestBoot:
    async def test_with_both_there_the_default_controller_claims_and_the_other_stands_by(self, world: World) -> None:
        await world.boot()
        assert world.a.term == world.b.term == 8, "a term above the one of the single controller (7)"
        assert "OWNER" not in [s.role for s in world.b.seen]

    async def test_the_default_may_be_b(self, world: World) -> None:
        for controller in (world.a, world.b):
            controller.settings = msgspec.structs.replace(controller.settings, default_node="B")
            controller.start()
            controller.attach()
        await until(world.b.owns, 10, "B owns")
        await until(world.a.stands_by, 5, "A stands by")

    async def test_alone_it_waits_to_settle_and_claims(self, world: World) -> None:
        began = boottime()
        world.b.start()
        world.b.attach()
        await until(world.b.owns, 10, "B owns")
        assert boottime() - began >= SETTLE_S
        assert [s.role for s in world.b.seen if s.role != "OWNER"][-1] == "WAITING"

    async def test_never_paired_it_is_single_in_the_term_of_the_settings(self, world: World) -> None:
        world.a.settings = msgspec.structs.replace(world.a.settings, paired=False)
        world.a.start()
        world.a.attach()
        await until(lambda: world.a.role == "SINGLE", 5, "A is single")
        assert world.a.term == 7

    async def test_disabled_nobody_claims_until_one_is_forced(self, world: World) -> None:
        for controller in (world.a, world.b):
            controller.settings = msgspec.structs.replace(controller.settings, disabled=True)
            controller.start()
            controller.attach()
        await until(lambda: world.a.stands_by() and world.b.stands_by(), 5, "both stand by")
        await holds_for(lambda: world.a.stands_by() and world.b.stands_by(), 1.3 * SETTLE_S, "nobody claims")
        world.b.middlewared.send(hub.Force())
        await until(world.b.owns, 5, "B was forced")

    async def test_an_owner_that_reboots_takes_its_own_reservation_again(self, world: World) -> None:
        await world.boot()
        for controller in (world.a, world.b):  # B, so that the default is not what decides
            controller.configure(default_node="B")
        world.a.kill()
        (world.a.run_dir / "fenced.state").unlink()  # the boot is another
        world.a.start()
        await until(lambda: world.a.owns() and world.a.term == 9, 5, "A owns again in a new term")
        assert "OWNER" not in [s.role for s in world.b.seen]


class TestACrash:
    async def test_a_killed_fenced_owns_again_in_a_few_interpreter_starts_and_the_peer_never_claims(
        self, world: World
    ) -> None:
        await world.boot()
        back, bare = [], []
        for kill in range(3):
            bare.append(await asyncio.to_thread(bare_start))
            seen = len(world.a.seen)
            world.a.kill()
            began = time.monotonic()
            world.a.start()
            await until(lambda seen=seen: len(world.a.seen) > seen, 5, "A speaks again")  # type: ignore[misc]
            back.append(time.monotonic() - began)
            assert {s.role for s in world.a.seen[seen:]} == {"OWNER"}, "no other role in between"
            assert world.a.term == 9 + kill
        assert min(back) < 6 * max(bare), (back, bare)
        await holds_for(world.b.stands_by, 0.5, "B stands by")
        assert "OWNER" not in [s.role for s in world.b.seen]

    async def test_it_resumes_without_middlewared(self, world: World) -> None:
        await world.boot()
        world.a.middlewared_runs = False
        world.a.kill()
        world.a.start()
        await until(lambda: world.a.term == 9, 5, "A owns again")

    async def test_a_killed_standby_stands_by_again_at_once(self, world: World) -> None:
        await world.boot()
        world.b.kill()
        seen = len(world.b.seen)
        world.b.start()
        await until(lambda: len(world.b.seen) > seen, 5, "B speaks again")
        assert world.b.stands_by()
        await holds_for(world.a.owns, 0.3, "A owns")

    async def test_a_second_fenced_of_the_same_controller_refuses_to_start(self, world: World) -> None:
        await world.boot()
        command = [sys.executable, str(FENCED), "--config", str(world.a.config)]
        second = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=10, check=False)
        assert second.returncode == 1
        assert b"another fenced" in second.stderr
        await holds_for(world.a.owns, 0.3, "the first goes on")


class TestASilentPeer:
    async def test_with_the_disks_beating_the_standby_stays(self, world: World) -> None:
        await world.boot()
        world.part()
        await holds_for(world.b.stands_by, 2 * HELD_S, "B stands by")
        assert world.a.owns()
        assert terms(world.a) == [8] * len(terms(world.a))

    async def test_a_frozen_owner_is_replaced_after_its_lease_and_demoted_when_it_thaws(self, world: World) -> None:
        await world.boot()
        froze = boottime()
        world.a.freeze()
        await until(world.b.owns, 5, "B owns")
        assert world.b.term == 9
        assert world.b.standing is not None
        assert world.b.standing.rule == "GONE"
        assert world.b.standing.since - froze >= HELD_S - 0.15, "not before the frozen owner's lease ended"
        seen = len(world.a.seen)
        world.a.thaw()
        await until(world.a.stands_by, 2, "A stands by")
        assert {s.role for s in world.a.seen[seen:]} == {"STANDBY"}, "the thawed owner never said that it owns"
        lost = world.a.standing.lost if world.a.standing is not None else None
        assert lost is not None and (lost.term, lost.rule) in ((8, "CUT_OFF"), (8, "DEPOSED"))
        await holds_for(lambda: world.b.owns() and world.a.stands_by(), 0.5, "it stays so")

    async def test_without_carrier_the_claim_comes_at_once(self, world: World) -> None:
        await world.boot()
        world.a.freeze()
        world.b.carrier, world.b.carrier_since = False, boottime()
        await until(world.b.owns, 5, "B owns")
        assert world.b.standing is not None
        assert world.b.standing.rule == "GONE_WITHOUT_CARRIER"

    async def test_a_thawed_standby_does_not_take_its_own_sleep_for_the_peers_death(self, world: World) -> None:
        await world.boot()
        world.b.freeze()
        await asyncio.sleep(2 * HELD_S)  # the length of the sleep is what is tested
        world.b.thaw()
        await holds_for(world.b.stands_by, 1.0, "B stands by")
        assert world.a.owns()

    async def test_without_carpd_the_standby_never_claims(self, world: World) -> None:
        await world.boot()
        world.b.carpd.drop("its carpd is gone")
        world.b._tasks[0].cancel()
        world.a.freeze()
        await holds_for(world.b.stands_by, 2 * HELD_S, "B stands by")

    async def test_disabled_the_standby_does_not_claim(self, world: World) -> None:
        await world.boot()
        for controller in (world.a, world.b):
            controller.configure(disabled=True)
        world.a.freeze()
        await holds_for(world.b.stands_by, 2 * HELD_S, "B stands by")


class TestCables:
    async def test_a_standby_without_its_shelf_cable_never_claims(self, world: World) -> None:
        await world.boot()
        await world.shelf(verb="cut", node="B")
        world.a.freeze()
        await holds_for(world.b.stands_by, 2 * HELD_S, "B stands by")
        await world.shelf(verb="heal", node="B")
        await until(world.b.owns, 5, "with its cable again, B claims")

    @pytest.mark.parametrize("way", ["both", "in", "out"])
    async def test_an_owner_without_its_shelf_cable_gives_its_term_to_a_peer_that_reads_the_disks(
        self, world: World, way: str
    ) -> None:
        await world.boot()
        await world.shelf(verb="cut", node="A", way=way)
        await holds_for(lambda: world.a.owns() and world.b.stands_by(), 1.5 * LEASE_S, "A owns and B stands by")
        await until(world.b.owns, 3, "B owns")
        await world.shelf(verb="heal", node="A")
        await holds_for(lambda: world.b.owns() and world.a.stands_by(), 0.5, "B owns and A stands by")
        assert "POOL_LOST" in [s.rule for s in world.a.seen]

    async def test_an_owner_keeps_its_term_while_nobody_reads_the_disks(self, world: World) -> None:
        await world.boot()
        for node in ("A", "B"):
            await world.shelf(verb="cut", node=node)
        await holds_for(lambda: world.a.owns() and world.b.stands_by(), 3 * LEASE_S, "A owns and B stands by")
        for node in ("A", "B"):
            await world.shelf(verb="heal", node=node)
        await holds_for(lambda: world.a.owns() and world.b.stands_by(), 0.5, "A owns and B stands by")
        assert set(terms(world.a)) == {8}

    async def test_an_owner_cut_off_from_everything_steps_down_and_its_peer_claims(self, world: World) -> None:
        await world.boot()
        await world.shelf(verb="cut", node="A")
        world.part()
        parted = boottime()
        await until(world.a.stands_by, 3, "A steps down")
        assert "CUT_OFF" in [s.rule for s in world.a.seen]
        assert boottime() - parted < 1.0
        await until(world.b.owns, 3, "B owns")
        assert world.b.standing is not None
        await world.shelf(verb="heal", node="A")
        world.interlink = world.lan = True
        await holds_for(lambda: world.b.owns() and world.a.stands_by(), 1.0, "B keeps it")

    async def test_an_owner_cut_off_for_a_while_owns_again_when_nobody_took_it(self, world: World) -> None:
        await world.boot()
        world.b.configure(disabled=True)
        await world.shelf(verb="cut", node="A")
        world.part()
        await until(world.a.stands_by, 3, "A steps down")
        await world.shelf(verb="heal", node="A")
        await until(world.a.owns, 3, "A owns again")
        assert world.a.term == 9

    async def test_a_partition_of_the_networks_at_boot_leaves_one_owner(self, world: World) -> None:
        world.part()
        for controller in (world.a, world.b):
            controller.start()
            controller.attach()
        await until(lambda: world.a.owns() or world.b.owns(), 10, "one owns")
        await holds_for(lambda: world.a.owns() != world.b.owns(), 2.0, "exactly one owns")
        assert not set(terms(world.a)) & set(terms(world.b))


class TestHandover:
    async def test_a_lost_network_moves_the_term_to_the_peer_that_has_it(self, world: World) -> None:
        await world.boot()
        world.a.lose_links()
        took = await until(world.b.owns, 3, "B owns")
        assert world.a.stands_by()
        assert world.b.term == 9
        assert took < 1.0
        await holds_for(lambda: world.b.owns() and world.a.stands_by(), 0.5, "it stays so")

    async def test_it_waits_for_the_timeout_and_forgets_a_network_that_came_back(self, world: World) -> None:
        await world.boot()
        world.a.configure(timeout_s=0.6)
        world.a.lose_links()
        await holds_for(world.a.owns, 0.3, "A owns")
        world.a.links_up, world.a.links_since = True, boottime()
        await holds_for(world.a.owns, 0.8, "A owns")

    async def test_a_network_that_is_lost_on_both_sides_moves_nothing(self, world: World) -> None:
        await world.boot()
        world.b.lose_links()
        world.a.lose_links()
        await holds_for(lambda: world.a.owns() and world.b.stands_by(), 0.8, "A owns")

    async def test_resigning_drops_the_address_first_and_the_peer_takes_over(self, world: World) -> None:
        await world.boot()
        world.a.middlewared.send(hub.Resign(why="maintenance"))
        await until(world.b.owns, 3, "B owns")
        resigned = [s for s in world.a.seen if s.resigned]
        assert resigned[0].role == "STANDBY"
        assert resigned[0].why == "maintenance"
        await until(lambda: world.a.standing is not None and not world.a.standing.resigned, 3, "the flag is cleared")
        for _ in range(100):  # those beyond the majority are claimed after it
            if await _holders(world) == {"B"}:
                break
            await asyncio.sleep(0.02)
        assert await _holders(world) == {"B"}

    async def test_a_forced_claim_takes_the_term_from_an_owner(self, world: World) -> None:
        await world.boot()
        world.b.middlewared.send(hub.Force())
        await until(world.b.owns, 3, "B owns")
        await until(world.a.stands_by, 2, "A was deposed")
        assert world.a.standing is not None and world.a.standing.lost is not None
        assert (world.a.standing.lost.term, world.a.standing.lost.rule) == (8, "DEPOSED")
        assert world.b.term == 9


class TestWithoutDisks:
    @pytest.fixture
    def voters(self) -> int:
        return 0

    async def test_only_a_forced_claim_owns_and_it_says_that_nothing_fences_the_peer(self, world: World) -> None:
        for controller in (world.a, world.b):
            controller.start()
            controller.attach()
        await until(lambda: world.a.stands_by() and world.b.stands_by(), 5, "both stand by")
        await holds_for(lambda: world.a.stands_by() and world.b.stands_by(), 1.3 * SETTLE_S, "nobody claims")
        world.b.middlewared.send(hub.Force())
        await until(world.b.owns, 3, "B owns")
        assert world.b.standing is not None
        assert "nothing fences the peer" in world.b.standing.why
        world.a.middlewared.send(hub.Force())
        await until(world.a.owns, 3, "A owns")
        await until(world.b.stands_by, 2, "B yields to the higher term")


class TestTheHub:
    async def test_carpd_gets_the_settings_and_the_standing_and_its_state_goes_to_middlewared(
        self, world: World
    ) -> None:
        await world.boot()
        assert any(isinstance(message, hub.Settings) for message in world.a.to_carpd)
        world.a.to_carpd.clear()
        world.a.carpd.drop("a new carpd")
        await until(lambda: len(world.a.to_carpd) >= 2, 2, "all is said again")
        assert isinstance(world.a.to_carpd[0], hub.Settings)

    async def test_what_is_no_message_ends_that_connection_only_and_all_files_are_for_root(self, world: World) -> None:
        await world.boot()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as bad:
            bad.settimeout(5)
            bad.connect(str(world.a.run_dir / "fenced.sock"))
            bad.send(b"\x00nonsense")
            assert bad.recv(10) == b""
        await holds_for(world.a.owns, 0.3, "A owns")
        modes = {name: _mode(world.a.run_dir / name) for name in ("fenced.sock", "fenced.state")}
        assert modes == {"fenced.sock": 0o600, "fenced.state": 0o600}


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_boot_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "middlewared.fenced", "--config", str(tmp_path / "none.toml")]
    refused = subprocess.run(command, capture_output=True, timeout=10, check=False)
    assert refused.returncode == 1
    assert refused.stderr.count(b"\n") == 1
    assert b"none.toml" in refused.stderr
