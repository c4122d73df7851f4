"""Keys for one purpose each, made from the cluster's key, so that none of them opens what another one closes."""

from __future__ import annotations

import hmac

from middlewared.protocol.carp_packet import KEY_SIZE


def carp_key(cluster_key: bytes) -> bytes:
    """For adverts; as long as CARP allows."""
    return hmac.digest(cluster_key, b"middlewared carp 1", "sha256")[:KEY_SIZE]


def heartbeat_key(cluster_key: bytes) -> bytes:
    """For heartbeats on the interlink."""
    return hmac.digest(cluster_key, b"middlewared heartbeat 1", "sha256")


def slot_key(cluster_key: bytes) -> bytes:
    """For the slots on the shared disks."""
    return hmac.digest(cluster_key, b"middlewared slots 1", "sha256")


def secrets_key(cluster_key: bytes) -> tuple[str, bytes]:
    """The first key of a pair's secrets, and its id, which tells nothing of it."""
    kid = hmac.digest(cluster_key, b"middlewared secrets id 1", "sha256").hex()[:8]
    return kid, hmac.digest(cluster_key, b"middlewared secrets 1", "sha256")
