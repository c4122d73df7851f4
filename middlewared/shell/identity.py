"""Who this controller is to its peer: its certificate, the peer's, and the keys of the cluster.

All of it lies in `keys/` of the data directory, mode 0600, and never in the log.

    node.key, node.crt   Ed25519, made at the first start, self-signed: it is pinned, not issued
    peer.crt             the other controller's, from the pairing
    secrets.json         {active, keys}: what opens the secrets in the log; shell/keyring.py says where they come from
    cluster.json         {cluster_id, key}: from the pairing; its presence says "paired"
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
from pathlib import Path

import msgspec

from middlewared.kernel.errors import BadBootFile, PortFailed
from middlewared.kernel.facts import Node
from middlewared.kernel.secret import KeyBundle, masked
from middlewared.protocol.keys import secrets_key
from middlewared.shell import durable_file


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """What both controllers of a pair share. key: 32 bytes; carpd and fenced derive theirs from it."""

    cluster_id: str
    key: bytes

    def __repr__(self) -> str:
        return masked(self, "key")

    @classmethod
    def new(cls) -> Cluster:
        return cls(cluster_id=secrets.token_hex(8), key=secrets.token_bytes(32))


class Keys:
    """The `keys` directory of this controller. Raises BadBootFile when it cannot be made or read."""

    def __init__(self, data_dir: Path, node: Node) -> None:
        self._dir = data_dir / "keys"
        self._node = node
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable_file.sync_directory(data_dir)
            if not self.certificate_path.exists():
                self._make()
        except OSError as e:
            raise BadBootFile(f"data_dir: {e.filename}: {e.strerror}") from None

    @property
    def certificate_path(self) -> Path:
        return self._dir / "node.crt"

    @property
    def certificate(self) -> str:
        return self.certificate_path.read_text()

    @property
    def cluster(self) -> Cluster | None:
        """None before the pairing. Raises BadBootFile for a file that is not one of ours."""
        path = self._dir / "cluster.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Cluster)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as e:
            raise BadBootFile(f"{path}: {e}") from None

    @property
    def secret_keys(self) -> KeyBundle | None:
        """What opens the secrets in the log; None where there is none yet. Raises BadBootFile."""
        path = self._dir / "secrets.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=KeyBundle)
        except FileNotFoundError:
            cluster = self.cluster
        except msgspec.DecodeError as e:
            raise BadBootFile(f"{path}: {e}") from None
        return first_secret_keys(cluster) if cluster is not None else None

    def keep_secret_keys(self, bundle: KeyBundle) -> None:
        """Durable when it returns. Raises PortFailed."""
        try:
            self._write("secrets.json", msgspec.json.encode(bundle))
        except OSError as e:
            raise PortFailed("keep the keys of the secrets", f"{self._dir}: {e.strerror}") from None

    def pair(self, cluster: Cluster, peer_certificate: str, secret_keys: KeyBundle | None = None) -> None:
        """Remember the peer and the cluster; durable when it returns. From the next start on this is a pair.

        secret_keys: what opens the secrets of the log that the pair goes on with; None: the one that both derive from
        the cluster's key. This controller's own stay beside them: its own log, which is set aside, has secrets too.
        Raises PortFailed: then this controller is not paired.
        """
        secret_keys = secret_keys or first_secret_keys(cluster)
        own = self.secret_keys
        keys = {**(own.keys if own is not None else {}), **secret_keys.keys}
        self.keep_secret_keys(KeyBundle(secret_keys.active, keys))
        try:
            self._write("peer.crt", peer_certificate.encode())
            self._write("cluster.json", msgspec.json.encode(cluster))
        except OSError as e:
            raise PortFailed("remember the pairing", f"{self._dir}: {e.strerror}") from None

    def fingerprint(self) -> bytes:
        return fingerprint(ssl.PEM_cert_to_DER_cert(self.certificate))

    def link_context(self, *, server: bool) -> ssl.SSLContext:
        """TLS between the two paired controllers: each accepts the other's certificate and no other."""
        context = self._context(server)
        context.load_verify_locations(self._dir / "peer.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def pairing_context(self, *, server: bool) -> ssl.SSLContext:
        """TLS of the pairing: the one who joins checks the fingerprint in the code, nothing else is known yet."""
        return self._context(server)

    def _context(self, server: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(self.certificate_path, self._dir / "node.key")
        return context

    def _make(self) -> None:
        key, certificate = make_certificate(f"middlewared {self._node}")
        self._write("node.key", key)
        self._write("node.crt", certificate)

    def _write(self, name: str, content: bytes) -> None:
        durable_file.replace(self._dir / name, content)


def is_paired(data_dir: Path) -> bool:
    """Whether the keys in this data directory are those of a pair, without making any."""
    return (data_dir / "keys" / "cluster.json").exists()


def first_secret_keys(cluster: Cluster) -> KeyBundle:
    """With what a pair closes its first secret: both know it without a word."""
    kid, key = secrets_key(cluster.key)
    return KeyBundle(kid, {kid: key})


def fingerprint(certificate_der: bytes) -> bytes:
    """SHA-256 of the certificate."""
    return hashlib.sha256(certificate_der).digest()


def make_certificate(name: str) -> tuple[bytes, bytes]:
    """A new Ed25519 key and its self-signed certificate, both PEM. It is pinned, so its dates bound nothing."""
    # Imported here: it is needed once in a controller's life and costs every start 50 ms.
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2999, 12, 31, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def code_of(secret: bytes, certificate_fingerprint: bytes) -> str:
    """The pairing code: 80 bits of secret and 80 bits of fingerprint, in groups of four letters."""
    text = base64.b32encode(secret + certificate_fingerprint[:10]).decode()
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def read_code(code: str) -> tuple[bytes, bytes] | None:
    """(secret, first 10 bytes of the fingerprint), or None if this is no code."""
    try:
        raw = base64.b32decode(code.replace("-", "").replace(" ", "").upper())
    except ValueError:
        return None
    return (raw[:10], raw[10:]) if len(raw) == 20 else None
