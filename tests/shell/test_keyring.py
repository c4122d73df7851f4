from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from middlewared.kernel.errors import BadBootFile, PortFailed
from middlewared.kernel.secret import KeyBundle
from middlewared.shell.identity import Cluster, Keys, first_secret_keys
from middlewared.shell.keyring import Keyring


def keyring(directory: Path) -> Keyring:
    return Keyring(Keys(directory, "A"))


async def test_the_first_key_of_a_controller_by_itself_is_drawn_when_it_is_needed_and_is_there_the_next_time(
    tmp_path: Path,
) -> None:
    ring = keyring(tmp_path)
    assert (ring.ids(), ring.active) == ((), None)
    sealed = await ring.seal("user", "root", "s3cret")
    assert ring.ids() == (sealed.kid,)
    assert await keyring(tmp_path).open("user", "root", sealed) == "s3cret"


async def test_the_file_of_the_keys_is_for_its_owner_only(tmp_path: Path) -> None:
    await keyring(tmp_path).add_key()
    assert stat.S_IMODE((tmp_path / "keys" / "secrets.json").stat().st_mode) == 0o600


async def test_an_envelope_opens_at_its_own_place_only(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    sealed = await ring.seal("user", "root", "s3cret")
    for noun, field in (("user", "eva"), ("pool", "root")):
        with pytest.raises(PortFailed, match=f"it is not what key {sealed.kid} closed there"):
            await ring.open(noun, field, sealed)


async def test_the_same_secret_gives_another_envelope_each_time(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    assert await ring.seal("user", "root", "s3cret") != await ring.seal("user", "root", "s3cret")


async def test_a_new_key_is_used_when_it_is_active_and_the_old_one_opens_until_it_is_dropped(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    told: list[tuple[str, ...]] = []
    ring.on_change = told.append
    old = await ring.seal("user", "root", "s3cret")
    kid = await ring.add_key()
    assert (await ring.seal("user", "root", "x")).kid == old.kid
    await ring.activate(kid)
    assert (await ring.seal("user", "root", "x")).kid == kid
    assert await ring.open("user", "root", old) == "s3cret"
    await ring.drop(kid)
    assert kid in ring.ids()  # the active one stays
    await ring.drop(old.kid)
    assert told[-1] == ring.ids() == (kid,)
    with pytest.raises(PortFailed, match=f"does not hold its key {old.kid}"):
        await ring.open("user", "root", old)
    with pytest.raises(PortFailed, match="does not hold key nope"):
        await ring.activate("nope")


async def test_a_pair_has_its_first_key_from_what_both_know(tmp_path: Path) -> None:
    cluster = Cluster.new()
    rings = []
    for name in ("a", "b"):
        keys = Keys(tmp_path / name, "A")
        keys.pair(cluster, "", first_secret_keys(cluster))
        rings.append(Keyring(keys))
    sealed = await rings[0].seal("user", "root", "s3cret")
    assert await rings[1].open("user", "root", sealed) == "s3cret"
    assert rings[0].ids() == rings[1].ids()
    assert cluster.key.hex()[:8] not in rings[0].ids()


async def test_a_pair_of_the_first_build_derives_its_key_when_it_is_upgraded(tmp_path: Path) -> None:
    keys, cluster = Keys(tmp_path, "A"), Cluster.new()
    (tmp_path / "keys" / "cluster.json").write_bytes(msgspec.json.encode(cluster))
    assert Keyring(keys).bundle() == first_secret_keys(cluster)


async def test_a_controller_that_has_just_become_one_of_a_pair_closes_with_the_pair_s_key(tmp_path: Path) -> None:
    keys, cluster = Keys(tmp_path, "A"), Cluster.new()
    ring = Keyring(keys)
    keys.pair(cluster, "", first_secret_keys(cluster))
    assert (await ring.seal("user", "root", "x")).kid == first_secret_keys(cluster).active


async def test_who_joins_opens_what_the_first_closed_and_what_itself_closed_before(tmp_path: Path) -> None:
    first, second = keyring(tmp_path / "a"), Keys(tmp_path / "b", "B")
    sealed = await first.seal("user", "root", "s3cret")
    own = await Keyring(second).seal("user", "root", "mine")
    bundle = first.bundle()
    assert bundle is not None
    second.pair(Cluster.new(), "", bundle)
    assert Keyring(second).active == first.active
    assert await Keyring(second).open("user", "root", sealed) == "s3cret"
    assert await Keyring(second).open("user", "root", own) == "mine"


async def test_keys_of_the_other_controller_are_held_beside_the_own_ones(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    own = await ring.add_key()
    await ring.merge(KeyBundle("other", {"other": bytes(32)}))
    assert (ring.active, ring.ids()) == ("other", tuple(sorted((own, "other"))))


def test_a_file_of_keys_that_is_none_is_said_at_the_start(tmp_path: Path) -> None:
    keys = Keys(tmp_path, "A")
    (tmp_path / "keys" / "secrets.json").write_text("{")
    with pytest.raises(BadBootFile, match=r"secrets\.json"):
        Keyring(keys)


def test_the_cipher_s_library_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, middlewared.shell.keyring; print('cryptography' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=20) == "False\n"
