"""What happens to one interface and its addresses, by netlink events."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
)

from lb.addresses import Interface
from lb.errors import NetworkError
from lb.netif.links import Link, addresses_on, interface_of, link, link_of
from lb.netif.rtnl import Listener, Message


class InterfaceWatch:
    """Calls `on_link(link)` when the interface changes, `on_address_lost(address)` when it loses an address.

    on_link: with the Link as it is now after a change of up, carrier, MAC, MTU or index; with None when it
    was deleted (and again with a Link when one of that name returns). on_address_lost: whoever took it, we
    ourselves included; the caller knows whether it should be there.
    """

    def __init__(
        self,
        interface: str,
        on_link: Callable[[Link | None], None],
        on_address_lost: Callable[[Interface], None],
    ) -> None:
        self._interface = interface
        self._on_link = on_link
        self._on_address_lost = on_address_lost

    async def start(self) -> Link:
        """Begin to watch and return the interface as it is. Raises NetworkError if there is none."""
        self._listener = Listener(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, self._on_event, self._read_all)
        try:
            self._link: Link | None = link(self._interface)
        except NetworkError:
            self._listener.close()
            raise
        self._addresses = set(addresses_on(self._interface))
        return self._link

    def close(self) -> None:
        """Stop watching."""
        self._listener.close()

    def _read_all(self) -> None:
        """Events were lost: find out what changed meanwhile."""
        try:
            self._set_link(link(self._interface))
        except NetworkError:
            self._set_link(None)
        for address in self._addresses - set(addresses_on(self._interface)):
            self._lose(address)
        self._addresses.update(addresses_on(self._interface))

    def _on_event(self, message: Message) -> None:
        match message["header"]["type"]:
            case number if number in (RTM_NEWLINK, RTM_DELLINK):
                self._on_link_event(message, deleted=number == RTM_DELLINK)
            case number if number in (RTM_NEWADDR, RTM_DELADDR):
                if self._link and message["index"] == self._link.index:
                    self._on_address_event(message, removed=number == RTM_DELADDR)

    def _on_link_event(self, message: Message, deleted: bool) -> None:
        # A bridge announces its ports under their index with family AF_BRIDGE: no change of the link itself.
        if message["family"] != socket.AF_UNSPEC:
            return
        ours = self._link is not None and message["index"] == self._link.index
        if not deleted and message.get_attr("IFLA_IFNAME") == self._interface:
            self._set_link(link_of(message))
        elif ours:  # deleted, renamed or moved to another namespace
            self._set_link(None)

    def _set_link(self, now: Link | None) -> None:
        if now == self._link:
            return
        self._link = now
        self._on_link(now)

    def _on_address_event(self, message: Message, removed: bool) -> None:
        address = interface_of(message)
        if removed:
            self._lose(address)
        else:
            self._addresses.add(address)

    def _lose(self, address: Interface) -> None:
        self._addresses.discard(address)
        self._on_address_lost(address)
