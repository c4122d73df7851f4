"""`system.secrets`: which keys close this system's secrets, and closing all of them anew under another one.

Every key is held by both controllers before the first envelope is made with it. The owner sees to that again and again:
what one of the two does not hold, it gets from the other over the interlink.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from middlewared.kernel.errors import CallFailed
from middlewared.kernel.secret import KeyBundle, Sealed
from middlewared.plugin import Call, Controller, Duty, DutyCall, PeerCall, Rewrap, command, peer, query

SEALED_SINCE = 2
"""The log format from which on secrets are in envelopes."""
ROUNDS = 3
"""How often secrets that were changed meanwhile are looked at again."""
SHARE_S = 5.0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """active: closes new secrets. peer_key_ids, equal: null where the other controller does not say.

    secrets: how many are closed by which key. plain: how many the log holds as they are, from before envelopes.
    """

    key_ids: tuple[str, ...]
    active: str | None
    peer_key_ids: tuple[str, ...] | None
    equal: bool | None
    secrets: dict[str, int]
    plain: int


class Rewrapped(msgspec.Struct, frozen=True, kw_only=True):
    """key_id: of the new key. rewrapped: how many secrets it closes now. key_ids: all that are held."""

    key_id: str
    rewrapped: int
    key_ids: tuple[str, ...]


@query("system.secrets.status", roles=("SYSTEM_GENERAL_READ",))
async def status(call: Call) -> Status:
    """The keys of this system's secrets, here and at the other controller, and what they close."""
    theirs = await _peer_ids(call.controller)
    mine = call.controller.secrets.ids()
    held = [secret for secrets in call.controller.held_secrets().values() for secret in secrets.values()]
    return Status(
        key_ids=mine,
        active=call.controller.secrets.active,
        peer_key_ids=theirs,
        equal=theirs == mine if theirs is not None else None,
        secrets=dict(Counter(secret.kid for secret in held if isinstance(secret, Sealed))),
        plain=sum(isinstance(secret, str) for secret in held),
    )


@command("system.secrets.rewrap", roles=("FULL_ADMIN",))
async def rewrap(call: Call, keep_old: bool = True) -> Rewrapped:
    """Close every secret anew, under a new key. keep_old false: forget the keys before it, on both controllers.

    Without the old keys nobody can open what the log holds from before: an audit cannot, and neither can whoever takes
    those events out of a backup.
    """
    _must_be_able(call)
    secrets = call.controller.secrets
    await _opened(call.controller, call.controller.held_secrets())  # Nothing is begun that a lost key would end.
    kid = await secrets.add_key()
    bundle = secrets.bundle()
    if call.controller.facts().paired and bundle is not None:
        await call.controller.ask_peer("system.secrets.keep", KeyBundle(kid, bundle.keys))
    await secrets.activate(kid)
    done = 0
    for _ in range(ROUNDS):
        left = _not_under(kid, call.controller.held_secrets())
        for noun, opened in (await _opened(call.controller, left)).items():
            closed = {name: await secrets.seal(noun, name, text, kid) for name, text in opened.items()}
            envelopes = {name: (left[noun][name], new) for name, new in closed.items()}
            await call.execute(Rewrap(noun=noun, envelopes=envelopes))
            done += len(envelopes)
    if not keep_old:
        await _forget(call.controller, kid)
    return Rewrapped(key_id=kid, rewrapped=done, key_ids=secrets.ids())


@peer("system.secrets.ids")
async def ids(call: PeerCall) -> tuple[str, ...]:
    """The keys that are held here."""
    return call.controller.secrets.ids()


@peer("system.secrets.keep")
async def keep(call: PeerCall, bundle: KeyBundle) -> None:
    """Hold these keys too; durable when it is answered."""
    await call.controller.secrets.merge(bundle)


@peer("system.secrets.give")
async def give(call: PeerCall) -> KeyBundle | None:
    """The keys that are held here."""
    return call.controller.secrets.bundle()


@peer("system.secrets.drop")
async def drop(call: PeerCall, kids: list[str]) -> None:
    """Forget these keys."""
    for kid in kids:
        await call.controller.secrets.drop(kid)


async def share(call: DutyCall) -> None:
    """Let both controllers hold all keys. What the other cannot say now is asked again."""
    secrets = call.controller.secrets
    theirs = await _peer_ids(call.controller)
    if theirs is None or theirs == secrets.ids():
        return
    with suppress(CallFailed):
        given = await call.controller.ask_peer("system.secrets.give")
        if not set(theirs) <= set(secrets.ids()) and given is not None:
            other = msgspec.convert(given, KeyBundle)
            await secrets.merge(KeyBundle(secrets.active or other.active, other.keys))
        if (mine := secrets.bundle()) is not None and not set(mine.keys) <= set(theirs):
            await call.controller.ask_peer("system.secrets.keep", mine)


def _must_be_able(call: Call) -> None:
    facts = call.controller.facts()
    if facts.log_format < SEALED_SINCE:
        why = f"The log goes on in format {facts.log_format}, which has no envelopes; upgrade.finalize comes first"
        raise CallFailed(errno.EOPNOTSUPP, why)
    if facts.paired and not (facts.peer_connected and len(facts.in_sync) > 1):
        raise CallFailed(
            errno.ENOTCONN, "The other controller is not in sync; it must hold the new key before it is used"
        )


def _not_under(kid: str, held: Mapping[str, Mapping[str, Sealed | str]]) -> dict[str, dict[str, Sealed | str]]:
    left = {
        noun: {name: s for name, s in secrets.items() if isinstance(s, str) or s.kid != kid}
        for noun, secrets in held.items()
    }
    return {noun: secrets for noun, secrets in left.items() if secrets}


async def _opened(controller: Controller, held: Mapping[str, Mapping[str, Sealed | str]]) -> dict[str, dict[str, str]]:
    """Raises PortFailed for a secret whose key is not held."""
    found: dict[str, dict[str, str]] = {}
    for noun, secrets in held.items():
        found[noun] = {
            name: secret if isinstance(secret, str) else await controller.secrets.open(noun, name, secret)
            for name, secret in secrets.items()
        }
    return found


async def _forget(controller: Controller, kid: str) -> None:
    """Every key but `kid`, here first: what only the other still holds does no harm."""
    if _not_under(kid, controller.held_secrets()):
        raise CallFailed(errno.EBUSY, "Secrets were changed meanwhile; call again to forget the old keys")
    old = [name for name in controller.secrets.ids() if name != kid]
    for name in old:
        await controller.secrets.drop(name)
    if controller.facts().paired:
        await controller.ask_peer("system.secrets.drop", old)


async def _peer_ids(controller: Controller) -> tuple[str, ...] | None:
    if not controller.facts().paired:
        return None
    try:
        return msgspec.convert(await controller.ask_peer("system.secrets.ids"), tuple[str, ...])
    except CallFailed:
        return None


METHODS = (status, rewrap)
PEER = (ids, keep, give, drop)
DUTIES = (Duty(name="secrets.shared", run=share, every_s=SHARE_S),)
