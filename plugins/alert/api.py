"""The methods of `alert`."""

from __future__ import annotations

import errno
from contextlib import suppress

import msgspec

from middlewared.kernel.errors import CallFailed, Refused
from middlewared.plugin import Alert, AlertLevel, Call, PeerCall, local, peer, query

PEER_TIMEOUT_S = 1.0


class AlertClass(msgspec.Struct, frozen=True, kw_only=True):
    """id: the `klass` of its alerts."""

    id: str
    title: str
    level: AlertLevel


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """Classes that belong together."""

    id: str
    title: str
    classes: tuple[AlertClass, ...]


@query("alert.list", roles=("ALERT_LIST_READ",))
async def list_alerts(call: Call) -> list[Alert]:
    """What an operator must know at this moment, oldest first; each alert names the controller that it is about.

    Of both controllers; of this one alone while the other does not answer, which is an alert itself.
    """
    return await _both(call)


async def _both(call: Call) -> list[Alert]:
    theirs: list[Alert] | None = None
    with suppress(CallFailed):  # It is away, which is an alert itself.
        theirs = msgspec.convert(await call.controller.ask_peer("alert.own", timeout_s=PEER_TIMEOUT_S), list[Alert])
    return list(call.controller.alerts(theirs))


@peer("alert.own")
async def own_alerts(call: PeerCall) -> list[Alert]:
    """What an operator must know of this controller."""
    return list(call.controller.alerts())


@query("alert.list_categories", roles=("ALERT_LIST_READ",))
async def list_categories(call: Call) -> list[Category]:
    """Every class of alerts that there is."""
    classes = (AlertClass(id=s.klass, title=s.title, level=s.level) for s in call.alert_sources())
    return [Category(id="HA", title="High availability", classes=tuple(classes))]


@local("alert.dismiss", roles=("ALERT_LIST_WRITE",))
async def dismiss(call: Call, id: str) -> None:  # noqa: A002
    """Show an alert as read, on the controller that answers, until what it tells is over or the daemon restarts."""
    await _mark(call, id, dismissed=True)


@local("alert.restore", roles=("ALERT_LIST_WRITE",))
async def restore(call: Call, id: str) -> None:  # noqa: A002
    """Show an alert as unread again."""
    await _mark(call, id, dismissed=False)


async def _mark(call: Call, id_: str, *, dismissed: bool) -> None:
    if all(alert.id != id_ for alert in await _both(call)):
        raise Refused(("id", f"there is no alert {id_}", errno.ENOENT))
    call.controller.dismiss_alert(id_, dismissed=dismissed)


METHODS = (list_alerts, list_categories, dismiss, restore)
PEER_METHODS = (own_alerts,)
