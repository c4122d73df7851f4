from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.kernel.errors import BadBootFile, PortFailed
from middlewared.shell.identity import Cluster, Keys, code_of, read_code


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "A", "A")


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A whole TLS handshake in memory. Raises ssl.SSLError where either end refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    ends[1].write(b"welcome")
    assert ends[0].read(10) == b"welcome"


def test_keys_are_made_once_and_are_for_their_owner_alone(keys: Keys, tmp_path: Path) -> None:
    assert modes(tmp_path / "A" / "keys") == {"node.key": 0o600, "node.crt": 0o600}
    assert (tmp_path / "A" / "keys").stat().st_mode & 0o777 == 0o700
    assert Keys(tmp_path / "A", "A").certificate == keys.certificate
    assert len(keys.fingerprint()) == 32


def test_two_controllers_never_have_the_same_key(keys: Keys, tmp_path: Path) -> None:
    assert Keys(tmp_path / "B", "B").fingerprint() != keys.fingerprint()


def test_a_controller_is_paired_when_it_knows_its_cluster_and_also_after_a_restart(keys: Keys, tmp_path: Path) -> None:
    assert keys.cluster is None
    cluster = Cluster.new()
    keys.pair(cluster, Keys(tmp_path / "B", "B").certificate)
    assert Keys(tmp_path / "A", "A").cluster == cluster
    assert set(modes(tmp_path / "A" / "keys").values()) == {0o600}
    assert set(modes(tmp_path / "A" / "keys")) == {"node.key", "node.crt", "peer.crt", "cluster.json", "secrets.json"}


def test_a_pairing_that_cannot_be_kept_is_refused_with_the_reason(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "A" / "keys" / ".cluster.json").mkdir()
    with pytest.raises(PortFailed, match="remember the pairing"):
        keys.pair(Cluster.new(), "the certificate")
    assert keys.cluster is None


def test_no_two_clusters_are_the_same(tmp_path: Path) -> None:
    first, second = Cluster.new(), Cluster.new()
    assert first.cluster_id != second.cluster_id
    assert first.key != second.key
    assert len(first.key) == 32


@pytest.mark.parametrize("content", [b"", b"{}", b'{"cluster_id":"x"}', b"\xff"])
def test_a_file_of_the_cluster_that_is_none_of_ours_is_named(keys: Keys, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "A" / "keys" / "cluster.json").write_bytes(content)
    with pytest.raises(BadBootFile, match=r"keys/cluster\.json: "):
        _ = keys.cluster


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadBootFile, match=r"^data_dir: .*/file/keys: Not a directory$"):
        Keys(tmp_path / "file", "A")


def test_each_of_a_pair_accepts_the_other_and_no_third(keys: Keys, tmp_path: Path) -> None:
    b, stranger = Keys(tmp_path / "B", "B"), Keys(tmp_path / "C", "B")
    cluster = Cluster.new()
    keys.pair(cluster, b.certificate)
    b.pair(cluster, keys.certificate)
    stranger.pair(cluster, keys.certificate)
    shake_hands(keys.link_context(server=True), b.link_context(server=False))
    with pytest.raises(ssl.SSLError):
        shake_hands(keys.link_context(server=True), stranger.link_context(server=False))
    with pytest.raises(ssl.SSLError):
        shake_hands(stranger.link_context(server=True), b.link_context(server=False))


def test_a_client_without_any_certificate_is_refused_by_the_line(keys: Keys, tmp_path: Path) -> None:
    keys.pair(Cluster.new(), Keys(tmp_path / "B", "B").certificate)
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError):
        shake_hands(keys.link_context(server=True), nobody)


# The code


@given(st.binary(min_size=10, max_size=10), st.binary(min_size=32, max_size=32))
def test_a_code_that_was_printed_can_be_typed_in_any_case_and_spacing(secret: bytes, fingerprint: bytes) -> None:
    code = code_of(secret, fingerprint)
    assert [len(group) for group in code.split("-")] == [4] * 8
    for typed in (code, code.lower(), code.replace("-", " "), code.replace("-", "")):
        assert read_code(typed) == (secret, fingerprint[:10])


@pytest.mark.parametrize("code", ["", "ABCD", "AAAA-" * 7 + "AAA1", "AAAA-" * 7 + "AAA", "AAAA-" * 9, "ÄÄÄÄ-" * 8])
def test_what_is_no_code_is_none(code: str) -> None:
    assert read_code(code) is None
