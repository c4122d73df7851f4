"""Which answers are asked for, in which order, and what is proposed.

An answer is what the option says, else what the boot file already says, else what the person says.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import cast

import msgspec

from middlewared import config
from middlewared.config import FirstAddress, Interlink
from middlewared.kernel.errors import Refused
from middlewared.kernel.facts import Node, other
from middlewared.setup.answers import PROPOSED, Answers, boot_file, with_prefix
from middlewared.setup.dialog import Check, Dialog
from middlewared.setup.nics import Nic

NONE = "none"
KEEP = "keep"


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The options as they were typed; None: not given."""

    node: str | None = None
    interlink: str | None = None
    interlink_address: str | None = None
    peer: str | None = None
    address: str | None = None


def gather(given: Given, read: Mapping[str, object], nics: list[Nic], dialog: Dialog) -> Answers:
    """Ask for what is not known. Raises Refused for an option that is no answer."""
    values = config.flat(read)
    question = "Which slot of the chassis is this controller in, A or B?"
    node = cast(Node, _one(dialog, question, "--node", given.node, values.get("node"), _node).upper())
    dialog.show(nics)
    interlink = _interlink(given, values, node, nics, dialog)
    first = _first_address(given, values, node, interlink, nics, dialog)
    return Answers(node=node, interlink=interlink, first_address=first)


def gateway(given: str | None, *, joins: bool, asks: bool, dialog: Dialog) -> str | None:
    """The default gateway to set; None: what is configured stays. asks: where no option says it, the person does.

    joins: this controller takes the other's configuration; one of its own would be in the way of that.
    """
    if given is None:
        given = dialog.ask(f"The default gateway, or {NONE}:", "--gateway", NONE, _address_or_none) if asks else NONE
    _address_or_none(given)
    if given == NONE:
        return None
    if joins:
        raise Refused(("--gateway", "a controller that joins has the other one's: leave it out here"))
    return given


def _one(dialog: Dialog, question: str, option: str, given: str | None, known: object, check: Check) -> str:
    """The option, checked; else the answer, for which what is known is proposed."""
    if given is not None:
        check(given)
        return given
    return dialog.ask(question, option, str(known) if known not in (None, "") else None, check)


def _node(text: str) -> None:
    if text.upper() not in ("A", "B"):
        raise Refused(("--node", "A or B"))


def _address_or_none(text: str) -> None:
    try:
        if text != NONE:
            ip_address(text)
    except ValueError:
        raise Refused(("--gateway", f"{text!r} is not an IP address")) from None


def _interlink(
    given: Given, values: Mapping[str, object], node: Node, nics: list[Nic], dialog: Dialog
) -> Interlink | None:
    def there(text: str) -> None:
        if text != NONE and text not in [nic.name for nic in nics]:
            raise Refused(("--interlink", f"there is no interface {text!r}"))

    question = f"Which one is the cable to the other controller? ({NONE}: this controller stays alone)"
    name = _one(dialog, question, "--interlink", given.interlink, values.get("interlink.interface"), there)
    if name == NONE:
        return None

    def address(text: str) -> None:
        own, prefix = with_prefix(text, "--interlink-address")
        ends = Interlink(interface=name, address=own, peer=PROPOSED[other(node)], prefix=prefix)
        answers = Answers(node=node, interlink=ends)
        _sound("--interlink-address", answers, "interlink.address", "interlink.prefix")

    known = values.get("interlink.address", PROPOSED[node])
    proposed = f"{known}/{values.get('interlink.prefix', 24)}"
    question, option = "This controller's address on it:", "--interlink-address"
    own, prefix = with_prefix(_one(dialog, question, option, given.interlink_address, proposed, address), option)

    def peer(text: str) -> None:
        ends = Interlink(interface=name, address=own, peer=text, prefix=prefix)
        _sound("--peer", Answers(node=node, interlink=ends), "interlink.peer")

    theirs = values.get("interlink.peer") or (PROPOSED[other(node)] if own == PROPOSED[node] else None)
    return Interlink(
        interface=name,
        address=own,
        prefix=prefix,
        peer=_one(dialog, "The other controller's:", "--peer", given.peer, theirs, peer),
    )


def _first_address(
    given: Given,
    values: Mapping[str, object],
    node: Node,
    interlink: Interlink | None,
    nics: list[Nic],
    dialog: Dialog,
) -> FirstAddress | None:
    """INTERFACE:ADDRESS/PREFIX, or `keep` where the system gives this controller its addresses.

    A section of the file that is not whole is asked for: to propose `keep` then would be to propose its loss.
    """
    others = [nic for nic in nics if interlink is None or nic.name != interlink.interface]
    there = [f"{address} on {nic.name}" for nic in others for address in nic.reachable]
    known = KEEP if there else None
    if "first_address" in values:
        parts = [values.get(f"first_address.{name}") for name in ("interface", "address", "prefix")]
        known = None if None in parts else "{}:{}/{}".format(*parts)
        if known is None and given.address is None and dialog.assumes:
            raise Refused(("--address", f"is needed: the boot file has no {_first_missing(values)}"))

    def check(text: str) -> None:
        first = _parsed(text, [nic.name for nic in others])
        if first is not None:
            _sound("--address", Answers(node=node, interlink=interlink, first_address=first), "first_address.")

    has = f"it has {', '.join(there)}; {KEEP}: leave that to the system" if there else "it has none yet"
    question = f"This controller's own address for people and programs, INTERFACE:ADDRESS/PREFIX ({has})"
    return _parsed(_one(dialog, question, "--address", given.address, known, check), [nic.name for nic in others])


def _first_missing(values: Mapping[str, object]) -> str:
    fields = ("first_address.interface", "first_address.address")
    return next(field for field in fields if field not in values)


def _parsed(text: str, names: list[str]) -> FirstAddress | None:
    if text == KEEP:
        return None
    name, _, rest = text.partition(":")
    if name not in names:
        raise Refused(("--address", f"{name!r} is not one of {', '.join(names)}"))
    address, prefix = with_prefix(rest, "--address")
    return FirstAddress(interface=name, address=address, prefix=prefix)


def _sound(option: str, answers: Answers, *fields: str) -> None:
    """Raise Refused with what the boot file's rules have against these fields, or against those that begin so."""
    faults = config.check(boot_file({}, answers))
    if wrong := [(option, fault.relation) for fault in faults if fault.field.startswith(fields)]:
        raise Refused(*wrong)
