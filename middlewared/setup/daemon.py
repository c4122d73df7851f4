"""What setup asks of the daemon that it started, over the controller's own socket."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TypeVar

import msgspec

from middlewared.client import SyncClient
from middlewared.kernel.errors import MiddlewareError, PortFailed

T = TypeVar("T")

LOOK_S = 2.0
CALL_S = 30.0
PAIR_S = 600.0
"""As long as a code is good."""
_POLL_S = 0.2


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """How far a controller is already."""

    administrator: bool
    paired: bool


class Daemon:
    """socket: of the API. Every question is bounded, and raises MiddlewareError."""

    def __init__(self, socket: str) -> None:
        self._uri = f"ws+unix://{socket}"

    def look(self) -> Found | None:
        """How far it is; None while it does not answer."""
        with contextlib.suppress(MiddlewareError):
            return self._look()
        return None

    def wait_until_it_answers(self, within_s: float) -> Found:
        """Raises PortFailed with the last reason."""
        return self._until(self._look, f"middlewared did not answer within {within_s:g} s", within_s)

    def make_administrator(self, username: str, password: str) -> None:
        with self._client() as client:
            client.call("user.setup_local_administrator", username, password, timeout_s=CALL_S)

    def has_gateway(self, gateway: str) -> bool:
        """Whether this is the default gateway that is configured."""
        with self._client() as client:
            configured = client.call("network.configuration.config", timeout_s=CALL_S)
        return isinstance(configured, dict) and configured.get(_gateway_field(gateway)) == gateway

    def set_gateway(self, gateway: str) -> bool:
        """Whether it was another before."""
        if self.has_gateway(gateway):
            return False
        with self._client() as client:
            client.call("network.configuration.update", {_gateway_field(gateway): gateway}, timeout_s=CALL_S)
        return True

    def code(self) -> str:
        """A pairing code, good for ten minutes."""
        with self._client() as client:
            return str(client.call("failover.pair.open", timeout_s=CALL_S))

    def join(self, code: str, host: str, *, discard_mine: bool) -> None:
        with self._client() as client:
            client.call("failover.pair.join", code, host, discard_mine, timeout_s=CALL_S)

    def wait_until_paired(self, within_s: float) -> None:
        """The daemon begins anew meanwhile. Raises PortFailed."""

        def paired() -> bool:
            if not self._look().paired:
                raise PortFailed("pair", "the other controller has not joined")
            return True

        self._until(paired, f"no pair within {within_s:g} s", within_s)

    def _look(self) -> Found:
        with self._client() as client:
            reasons = client.call("failover.disabled.reasons", timeout_s=LOOK_S)
            administrator = client.call("user.has_local_administrator_set_up", timeout_s=LOOK_S)
        return Found(administrator=administrator is True, paired=reasons != ["NOT_PAIRED"])

    def _until(self, attempt: Callable[[], T], purpose: str, within_s: float) -> T:
        limit = time.monotonic() + within_s
        while True:
            try:
                return attempt()
            except MiddlewareError as e:
                if time.monotonic() > limit:
                    raise PortFailed(purpose, str(e)) from None
            time.sleep(_POLL_S)

    @contextlib.contextmanager
    def _client(self) -> Iterator[SyncClient]:
        with SyncClient(self._uri, connect_s=LOOK_S) as client:
            yield client


def _gateway_field(gateway: str) -> str:
    return f"ipv{ip_address(gateway).version}gateway"
