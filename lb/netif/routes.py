"""The kernel's routes to some addresses, followed by netlink events."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import NamedTuple

import structlog
from pyroute2.netlink.rtnl import (
    RTM_GETROUTE,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV4_RULE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_LINK,
)
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from lb.addresses import Address
from lb.errors import NetworkError
from lb.netif.links import FAMILIES, link
from lb.netif.rtnl import Listener, Message, Rtnl

log = structlog.get_logger(__name__)

_GROUPS = (
    RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_LINK
)
_NOBODY = {4: "0.0.0.0", 6: "::"}
_UNICAST = 1  # linux/rtnetlink.h: RTN_UNICAST
_SETTLE_S = 0.02
"""How long after an event all routes are looked up: a routing daemon changes many at once, and may delete first."""


class Route(NamedTuple):
    """How packets to an address leave.

    gateway: the router they are handed to, of either family, None on the link. source: the address that this host sends
    from; mtu: the route's own (`ip route … mtu`), else the link's.
    """

    interface: str
    gateway: Address | None
    source: Address
    mtu: int


def route(address: Address) -> Route:
    """What the kernel would do with a packet to this address. Raises NetworkError."""
    fields = {"family": FAMILIES[address.version], "dst_len": address.max_prefixlen}
    try:
        with Rtnl() as rtnl:
            (found,) = rtnl.call(rtmsg, RTM_GETROUTE, fields=fields, attrs={"RTA_DST": str(address)})
    except OSError as error:
        raise NetworkError(f"no route to {address}: {error.strerror}; see `ip route get {address}`") from None
    if found["type"] != _UNICAST:
        raise NetworkError(f"{address} is not another host's; see `ip route get {address}`")
    interface = link(socket.if_indextoname(found.get_attr("RTA_OIF")))
    via, metrics = found.get_attr("RTA_VIA"), found.get_attr("RTA_METRICS")
    gateway = via["addr"] if via else found.get_attr("RTA_GATEWAY")
    return Route(
        interface=interface.name,
        gateway=ip_address(gateway) if gateway else None,
        source=ip_address(found.get_attr("RTA_PREFSRC") or _NOBODY[address.version]),
        mtu=(metrics.get_attr("RTAX_MTU") if metrics else None) or interface.mtu,
    )


class Routes:
    """Looks up what is wanted, anew after each change in the kernel; calls `on_change()` when any route is another.

    An address that has lost its route keeps the last one until there is another: whether its host is dead is for
    health to say, and routes that are exchanged must not cost connections.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._routes: dict[Address, Route | None] = {}
        self._lost: dict[Address, str] = {}

    async def start(self) -> None:
        """Begin to listen."""
        self._again: asyncio.TimerHandle | None = None
        self._listener = Listener(_GROUPS, self._on_event, self._settle)

    def want(self, addresses: Iterable[Address]) -> None:
        """Follow exactly these from now on. The new ones are looked up at once."""
        old = self._routes
        self._routes = {address: old.get(address) for address in addresses}
        for address in self._routes.keys() - old.keys():
            self._look_up(address)

    def route(self, address: Address) -> Route | None:
        """The last one seen for a wanted address, None while there never was one."""
        return self._routes.get(address)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        if self._again:
            self._again.cancel()

    def _on_event(self, message: Message) -> None:  # noqa: ARG002
        self._settle()

    def _settle(self) -> None:
        if self._routes and not self._again:
            self._again = asyncio.get_running_loop().call_later(_SETTLE_S, self._look_up_all)

    def _look_up_all(self) -> None:
        self._again = None
        changed = [self._look_up(address) for address in self._routes]
        if any(changed):
            self._on_change()

    def _look_up(self, address: Address) -> bool:
        """Is it another one?"""
        try:
            found = route(address)
        except (NetworkError, OSError) as error:  # OSError: the interface went between two looks
            if self._lost.get(address) != str(error):
                log.warning("a real has no route", address=str(address), error=str(error))
            self._lost[address] = str(error)
            return False
        self._lost.pop(address, None)
        if found == self._routes[address]:
            return False
        self._routes[address] = found
        gateway = str(found.gateway) if found.gateway else "on the link"
        log.info("route", address=str(address), interface=found.interface, gateway=gateway, mtu=found.mtu)
        return True
