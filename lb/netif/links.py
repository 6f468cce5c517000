"""Links and addresses: read, add, remove, switch on and off."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from pyroute2.netlink import NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_GETADDR, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_LOWER_UP, IFF_UP, ifinfmsg

from lb.addresses import Address, Interface
from lb.errors import NetworkError
from lb.netif.rtnl import Message, Rtnl

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
"""By IP version."""

_FOREVER = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface.

    mac: six bytes, empty where a link has none. mtu: bytes. carrier: the other end is there.
    """

    index: int
    name: str
    mac: bytes
    mtu: int
    up: bool
    carrier: bool


def link_of(message: Message) -> Link:
    """The link that an RTM_NEWLINK message describes."""
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=mac_bytes(message.get_attr("IFLA_ADDRESS")),
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & IFF_UP),
        carrier=bool(message["flags"] & IFF_LOWER_UP),
    )


def mac_bytes(text: str | None) -> bytes:
    """`02:00:00:00:00:01` as bytes; nothing is empty."""
    return bytes.fromhex(text.replace(":", "")) if text else b""


def link(name: str) -> Link:
    """The interface called `name`. Raises NetworkError that lists those there are."""
    with Rtnl() as rtnl:
        try:
            (message,) = rtnl.call(ifinfmsg, RTM_GETLINK, attrs={"IFLA_IFNAME": name})
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ERANGE, errno.EINVAL):
                raise NetworkError(f"cannot read interface {name}: {error.strerror}") from None
            there = ", ".join(link_names())
            raise NetworkError(
                f"there is no interface {name!r} here ({there}); correct `interface` in the configuration"
            ) from None
    return link_of(message)


def link_names() -> list[str]:
    """Of the interfaces that are here."""
    return [name for _, name in socket.if_nameindex()]


def set_up(name: str, up: bool = True) -> None:
    """Switch a link on, or off. Raises NetworkError."""
    fields = {"index": link(name).index, "flags": IFF_UP if up else 0, "change": IFF_UP}
    try:
        with Rtnl() as rtnl:
            rtnl.call(ifinfmsg, RTM_NEWLINK, fields=fields)
    except OSError as error:
        wanted = "up" if up else "down"
        raise NetworkError(f"{name}: cannot set {wanted}: {error.strerror}; {_mend(error.errno)}") from None


def interface_of(message: Message) -> Interface:
    """The address that an RTM_NEWADDR message is about."""
    local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ip_interface(f"{local}/{message['prefixlen']}")


def addresses() -> list[tuple[str, Interface]]:
    """Every address here with the name of its interface, IPv4's first."""
    names = dict(socket.if_nameindex())
    with Rtnl() as rtnl:
        answer = [
            message
            for family in FAMILIES.values()
            for message in rtnl.call(ifaddrmsg, RTM_GETADDR, NLM_F_DUMP, {"family": family})
        ]
    return [(names[m["index"]], interface_of(m)) for m in answer if m["index"] in names]


def own_addresses() -> set[Address]:
    """Every address of this host."""
    return {address.ip for _, address in addresses()}


def addresses_on(name: str) -> list[Interface]:
    """The addresses of one interface."""
    return [address for holder, address in addresses() if holder == name]


def add_address(name: str, address: Address, prefix: int | None = None) -> None:
    """Give an interface an address; nothing happens if it has it already. Raises NetworkError.

    prefix: its length; None: that of one host. An IPv6 address is there at once, without waiting whether somebody else
    has it. That of one host is never taken as the source of what this host begins to say (deprecated, RFC 4862).
    """
    index = link(name).index
    _change(RTM_NEWADDR, index, address, prefix, harmless=errno.EEXIST, failure=f"add to {name}")


def remove_address(name: str, address: Address, prefix: int | None = None) -> None:
    """Take an address from an interface; nothing happens if either is not there. Raises NetworkError."""
    try:
        index = link(name).index
    except NetworkError:
        return
    _change(RTM_DELADDR, index, address, prefix, harmless=errno.EADDRNOTAVAIL, failure=f"remove from {name}")


def _change(number: int, index: int, address: Address, length: int | None, harmless: int, failure: str) -> None:
    flags = NLM_F_CREATE | NLM_F_EXCL if number == RTM_NEWADDR else 0
    prefix = address.max_prefixlen if length is None else length
    fields = {"family": FAMILIES[address.version], "index": index, "prefixlen": prefix}
    attrs: dict[str, Any] = {"IFA_LOCAL": str(address), "IFA_ADDRESS": str(address)}
    if address.version == 6:
        attrs["IFA_FLAGS"] = IFA_F_NODAD
        if length is None:
            attrs["IFA_CACHEINFO"] = {"ifa_preferred": 0, "ifa_valid": _FOREVER}
    try:
        with Rtnl() as rtnl:
            rtnl.call(ifaddrmsg, number, flags, fields, attrs)
    except OSError as error:
        if error.errno != harmless:
            raise NetworkError(
                f"{address}/{prefix}: cannot {failure}: {error.strerror}; {_mend(error.errno)}"
            ) from None


def _mend(code: int | None) -> str:
    if code in (errno.EPERM, errno.EACCES):
        return f"that needs CAP_NET_ADMIN, and this runs as user {os.geteuid()}: run it as root"
    return "see `ip address` and the kernel's log"
