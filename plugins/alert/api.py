"""The methods of `alert`."""

from __future__ import annotations

import errno

import msgspec

from middlewared.kernel.errors import Refused
from middlewared.plugin import Alert, AlertLevel, Call, local, query


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
    """What an operator must know at this moment, oldest first; each alert names the controller that it is about."""
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
    if all(alert.id != id_ for alert in call.controller.alerts()):
        raise Refused(("id", f"there is no alert {id_}", errno.ENOENT))
    call.controller.dismiss_alert(id_, dismissed=dismissed)


METHODS = (list_alerts, list_categories, dismiss, restore)
