"""A VIP in the kernel: an address with a lease, on a macvlan with the group's MAC.

    eth0          the parent, with the controller's own address and MAC
    carp7         macvlan (bridge mode) over it, MAC 00:00:5e:00:01:07; up only while the VIP is held
      192.0.2.10/32   valid_lft 1 s: the kernel removes it when nobody renews it

Both controllers have the same macvlan; if both were up, each would take the other's switch port. Answers leave by the
macvlan too: a rule sends what comes *from* the VIP to a table with the one route of its network. What is farther away
goes by the parent and its gateway, as all else does.

Settings that make this hold, on parent and macvlan: arp_ignore=1 (the parent must not answer for the VIP with its own
MAC), arp_announce=2. On the macvlan: rp_filter=2 (a client behind the gateway comes in here and is answered there), no
IPv6 address of its own making.

Sources: ip-link(8) on macvlan, linux/Documentation/networking/ip-sysctl.rst, rtnetlink(7) on IFA_CACHEINFO.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path

from middlewared.kernel.errors import PortFailed
from middlewared.kernel.facts import Vip
from middlewared.protocol.ethernet import virtual_mac
from middlewared.shell import netlink
from middlewared.shell.links import Link, Links
from middlewared.shell.netlink import Netlink, attribute, text, u32

_TABLE = 11200
"""Table and priority of the rule of VHID n: this + n. Below the rule of the main table (32766)."""

_IFF_UP = 0x1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO = 1, 3, 5, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_MACVLAN_MODE, _MACVLAN_BRIDGE = 1, 2, 1, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_RTA_DST, _RTA_OIF, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 7, 15
_RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST = 4, 253, 1
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE, _FR_ACT_TO_TABLE = 2, 6, 15, 1
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=BBBBBBBBI")

_ADDR_GEN_NONE = 1
_NET = Path("/proc/sys/net")


def name_of(vhid: int) -> str:
    return f"carp{vhid}"


class VipInterface:
    """The macvlan of one VIP. Every method is idempotent, takes about a millisecond, and raises PortFailed."""

    def __init__(self, requests: Netlink, links: Links, vip: Vip) -> None:
        self._requests = requests
        self._links = links
        self.vip = vip
        self._address = ip_address(vip.address)
        self._family = socket.AF_INET if self._address.version == 4 else socket.AF_INET6
        self._name = name_of(vip.vhid)
        self._for = f"VIP {vip.address}"

    def prepare(self) -> None:
        """Make the macvlan, down; adopt the one that an earlier process left, as it is."""
        self._links.catch_up()
        parent = self._parent()
        link = self._links.by_name(self._name)
        if link is not None and not self._is_ours(link, parent):
            delete_link(self._requests, link)
            link = None
        if link is None:
            self._create(parent)
            self._links.catch_up()
        self._set_sysctls(parent)

    def take(self, lease_s: float) -> None:
        """Bring the macvlan up and put the address on it for `lease_s` (whole seconds, at least 1)."""
        link = self._links.by_name(self._name)
        if link is None or not self._is_ours(link, self._parent()):
            self.prepare()
            link = self._own_link()
        set_up(self._requests, link, True)
        self._extend(link, lease_s)
        self._route(link)
        self._rule(netlink.RTM_NEWRULE)

    def renew(self, lease_s: float) -> None:
        """Extend the lease. The caller has made sure that it has not ended: this would create the address anew."""
        self._extend(self._own_link(), lease_s)

    def drop(self) -> None:
        """Take the address off. Nothing to drop is fine. That takes microseconds and ends all answers.

        The macvlan stays up, which takes 16 ms to end and does no harm meanwhile: without an address it says nothing.
        Whoever drops sees to it that `tidy` is called.
        """
        link = self._links.by_name(self._name)
        if link is None:
            return
        gone = (errno.EADDRNOTAVAIL, errno.ENODEV)
        self._requests.change(
            f"removing the {self._for}", netlink.RTM_DELADDR, self._address_message(link), tolerate=gone
        )
        self._rule(netlink.RTM_DELRULE)

    def remove(self) -> None:
        """Drop it and delete the macvlan."""
        self.drop()
        link = self._links.by_name(self._name)
        if link is not None:
            delete_link(self._requests, link)

    def _parent(self) -> Link:
        parent = self._links.by_name(self.vip.interface)
        if parent is None:
            raise PortFailed(self._for, f"there is no interface {self.vip.interface}")
        return parent

    def _own_link(self) -> Link:
        link = self._links.by_name(self._name)
        if link is None:
            raise PortFailed(self._for, f"interface {self._name} is gone")
        return link

    def _is_ours(self, link: Link, parent: Link) -> bool:
        return link.kind == "macvlan" and link.parent == parent.index and link.mac == virtual_mac(self.vip.vhid)

    def _create(self, parent: Link) -> None:
        data = attribute(_IFLA_INFO_DATA, u32(_IFLA_MACVLAN_MODE, _MACVLAN_BRIDGE))
        payload = (
            _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
            + text(_IFLA_IFNAME, self._name)
            + u32(_IFLA_LINK, parent.index)
            + attribute(_IFLA_ADDRESS, virtual_mac(self.vip.vhid))
            + attribute(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "macvlan") + data)
        )
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
        self._requests.change(f"making {self._name}", netlink.RTM_NEWLINK, payload, flags=flags)

    def _extend(self, link: Link, lease_s: float) -> None:
        lease = max(1, round(lease_s))
        payload = self._address_message(link) + attribute(_IFA_CACHEINFO, struct.pack("=IIII", lease, lease, 0, 0))
        payload += u32(_IFA_FLAGS, _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE)
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
        self._requests.change(f"extending the {self._for}", netlink.RTM_NEWADDR, payload, flags=flags)

    def _address_message(self, link: Link) -> bytes:
        packed = self._address.packed
        head = _IFADDR.pack(self._family, self._address.max_prefixlen, 0, 0, link.index)
        return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)

    def _route(self, link: Link) -> None:
        network = ip_network(f"{self.vip.address}/{self.vip.prefix}", strict=False)
        head = _RTMSG.pack(self._family, network.prefixlen, 0, 0, 0, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST, 0)
        payload = (
            head
            + attribute(_RTA_DST, network.network_address.packed)
            + u32(_RTA_OIF, link.index)
            + attribute(_RTA_PREFSRC, self._address.packed)
            + u32(_RTA_TABLE, _TABLE + self.vip.vhid)
        )
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
        self._requests.change(f"routing the {self._for}", netlink.RTM_NEWROUTE, payload, flags=flags)

    def _rule(self, kind: int) -> None:
        head = _RTMSG.pack(self._family, 0, self._address.max_prefixlen, 0, 0, 0, 0, _FR_ACT_TO_TABLE, 0)
        number = _TABLE + self.vip.vhid
        payload = head + attribute(_FRA_SRC, self._address.packed) + u32(_FRA_PRIORITY, number)
        payload += u32(_FRA_TABLE, number)
        there, gone = (errno.EEXIST,), (errno.ENOENT, errno.EAFNOSUPPORT)
        adding = kind == netlink.RTM_NEWRULE
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL if adding else 0
        purpose = f"the routing rule of the {self._for}"
        self._requests.change(purpose, kind, payload, flags=flags, tolerate=there if adding else gone)

    def _set_sysctls(self, parent: Link) -> None:
        for interface in (parent.name, self._name):
            _sysctl("ipv4", interface, "arp_ignore", 1)
            _sysctl("ipv4", interface, "arp_announce", 2)
        _sysctl("ipv4", self._name, "rp_filter", 2)
        if (_NET / "ipv6").exists():
            _sysctl("ipv6", self._name, "disable_ipv6", 0 if self._family == socket.AF_INET6 else 1)
            _sysctl("ipv6", self._name, "addr_gen_mode", _ADDR_GEN_NONE)
            _sysctl("ipv6", self._name, "accept_ra", 0)


def tidy(requests: Netlink, links: Links, held: Mapping[int, bool], *, alone: bool = True) -> str | None:
    """Do one thing that is left to do with the macvlans of groups, which takes about 16 ms; None: there is nothing.

    held: the VHIDs of the groups that there are, and whether this controller holds their VIPs. A group that is not
    among them was left by an earlier process or configuration: its macvlan is deleted, if nobody else makes any here
    (alone). One that is up without a VIP of ours is set down, or the other controller's switch port would be stolen by
    the first frame from here. Raises PortFailed.
    """
    links.catch_up()
    for link in links.all():
        if link.kind != "macvlan" or link.mac[:5] != virtual_mac(0)[:5] or link.name != name_of(link.mac[5]):
            continue
        if alone and link.mac[5] not in held:
            delete_link(requests, link)
            return f"{link.name} deleted"
        if link.up and not held.get(link.mac[5], True):
            set_up(requests, link, False)
            return f"{link.name} down"
    return None


def set_up(requests: Netlink, link: Link, up: bool) -> None:
    payload = _IFINFO.pack(socket.AF_UNSPEC, 0, link.index, _IFF_UP if up else 0, _IFF_UP)
    purpose = f"setting {link.name} {'up' if up else 'down'}"
    requests.change(purpose, netlink.RTM_NEWLINK, payload, tolerate=() if up else (errno.ENODEV,))


def delete_link(requests: Netlink, link: Link) -> None:
    """Raises PortFailed, but not when it is gone already."""
    payload = _IFINFO.pack(socket.AF_UNSPEC, 0, link.index, 0, 0)
    requests.change(f"deleting {link.name}", netlink.RTM_DELLINK, payload, tolerate=(errno.ENODEV,))


def _sysctl(family: str, interface: str, name: str, value: int) -> None:
    path = _NET / family / "conf" / interface / name
    try:
        if path.read_text().strip() != str(value):
            path.write_text(str(value))
    except OSError as e:
        raise PortFailed(f"setting {name} of {interface}", e.strerror or str(e)) from None
