"""The MACs of some addresses on one link, kept resolved and followed by netlink events.

XDP cannot queue a packet while ARP (or, of IPv6, neighbour discovery) asks, so every real must be resolved before it
gets one. The kernel does the asking: NTF_USE tells its neighbour table that an entry is about to be used, which sends
the request for an unknown or failed entry and starts the verification of a stale one.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from itertools import chain

import structlog
from pyroute2.netlink import NLM_F_CREATE, NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH, RTMGRP_NEIGH
from pyroute2.netlink.rtnl.ndmsg import (
    NTF_USE,
    NUD_DELAY,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    ndmsg,
)

from lb.addresses import Address
from lb.netif.links import FAMILIES, link, mac_bytes
from lb.netif.rtnl import Listener, Message, Rtnl, encode

log = structlog.get_logger(__name__)

_VALID = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY
_RETRY_S = 1.0  # the kernel gives an address up after three requests, one a second
_REQUESTS_A_TURN = 200  # about 40 us each


class Neighbours:
    """Resolves what is wanted and tells `on_change(address, mac)` each time a MAC becomes known or another.

    A neighbour that fails keeps its last MAC until another is learnt: whether a real is dead is for health to
    say, and a real that merely missed some ARP requests must not lose its connections meanwhile. on_change is
    never called with None and never for an address that is not wanted; it may be called from inside `want`.
    """

    def __init__(self, interface: str, on_change: Callable[[Address, bytes], None]) -> None:
        self._interface = interface
        self._on_change = on_change
        self._macs: dict[Address, bytes | None] = {}
        self._unresolved: dict[Address, None] = {}  # an ordered set: all get their turn
        self._refused: int | None = None

    async def start(self) -> None:
        """Begin to listen. Raises NetworkError if there is no such interface."""
        self._index = link(self._interface).index
        self._retry: asyncio.TimerHandle | None = None
        self._listener = Listener(RTMGRP_NEIGH, self._on_event, self._read_table, self._on_refused)

    def want(self, addresses: Iterable[Address]) -> None:
        """Keep exactly these resolved from now on."""
        old = self._macs
        self._macs = {address: old.get(address) for address in addresses}
        new = self._macs.keys() - old.keys()
        self._unresolved = {a: None for a in (*self._unresolved, *new) if a in self._macs}
        if new:
            self._read_table()
            self._ask_unresolved()

    def mac(self, address: Address) -> bytes | None:
        """The last MAC seen for a wanted address, None while it was never resolved."""
        return self._macs.get(address)

    def close(self) -> None:
        """Stop listening and asking; what the kernel knows stays."""
        self._listener.close()
        if self._retry:
            self._retry.cancel()

    def _read_table(self) -> None:
        """Compare with the kernel's whole table: at the beginning, and after events were lost."""
        with Rtnl() as rtnl:
            tables = [rtnl.call(ndmsg, RTM_GETNEIGH, NLM_F_DUMP, {"family": family}) for family in FAMILIES.values()]
        for entry in chain.from_iterable(tables):
            self._on_event(entry)

    def _on_event(self, message: Message) -> None:
        if message.get("ifindex") != self._index or message.get("family") not in FAMILIES.values():
            return
        address = ip_address(message.get_attr("NDA_DST"))
        if address not in self._macs:
            return
        gone = message["header"]["type"] == RTM_DELNEIGH
        mac = mac_bytes(message.get_attr("NDA_LLADDR"))
        if gone or not message["state"] & _VALID or not any(mac):
            self._unresolved[address] = None
            self._arm()
            return
        self._unresolved.pop(address, None)
        if message["state"] == NUD_STALE:
            self._ask(address)
        if mac != self._macs[address]:
            self._macs[address] = mac
            self._on_change(address, mac)

    def _arm(self) -> None:
        if not self._retry and self._unresolved:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._ask_unresolved)

    def _ask_unresolved(self) -> None:
        """Ask for the next of them, put them at the end of the queue, and come back later."""
        if self._retry:
            self._retry.cancel()
            self._retry = None
        for address in list(self._unresolved)[:_REQUESTS_A_TURN]:
            self._unresolved[address] = self._unresolved.pop(address)
            self._ask(address)
        self._arm()

    def _ask(self, address: Address) -> None:
        self._listener.send(
            encode(
                ndmsg,
                RTM_NEWNEIGH,
                NLM_F_CREATE,
                {"family": FAMILIES[address.version], "ifindex": self._index, "flags": NTF_USE},
                {"NDA_DST": str(address)},
            )
        )

    def _on_refused(self, code: int) -> None:
        """Say it once for each kind of refusal, not once a retry."""
        if code == self._refused:
            return
        self._refused = code
        mend = (
            "the kernel's neighbour table is full: raise net.ipv4.neigh.default.gc_thresh3 (of IPv6: net.ipv6)"
            if code == errno.ENOBUFS
            else "trying again every second"
        )
        reason = os.strerror(code)
        log.warning("neighbours cannot be resolved", interface=self._interface, reason=reason, mend=mend)
