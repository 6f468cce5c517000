"""How packets reach the reals from one interface: which neighbour they are handed to, and what a tunnel needs.

`gate` rewrites MACs, so its reals are neighbours. A tunnel leads anywhere: the routing table says to whom first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from lb.addresses import Address
from lb.netif.neighbours import Neighbours
from lb.netif.routes import Route, Routes
from lb.service import Hop, Way

log = structlog.get_logger(__name__)


class Ways:
    """Calls `on_change()` each time one becomes known or another."""

    def __init__(self, interface: str, on_change: Callable[[], None]) -> None:
        self._interface = interface
        self._on_change = on_change
        self._gates: frozenset[Address] = frozenset()
        self._tunnels: frozenset[Address] = frozenset()
        self._elsewhere: frozenset[Address] = frozenset()
        self._last: dict[Address, Hop] = {}
        self._neighbours = Neighbours(interface, self._on_neighbour)
        self._routes = Routes(self._on_route)

    async def start(self) -> None:
        """Begin to listen. Raises NetworkError if there is no such interface."""
        await self._neighbours.start()
        await self._routes.start()

    def close(self) -> None:
        """Stop listening and asking; what the kernel knows stays."""
        self._neighbours.close()
        self._routes.close()

    def want(self, gates: Iterable[Address], tunnels: Iterable[Address] = ()) -> None:
        """Keep the ways to exactly these known from now on: neighbours, and the far ends of tunnels."""
        self._gates = frozenset(gates)
        self._tunnels = frozenset(tunnels)
        self._last = {address: hop for address, hop in self._last.items() if address in self._tunnels}
        self._routes.want(self._tunnels)
        self._want_neighbours()

    def hop(self, address: Address, forward: str) -> Hop:
        """Where packets for a wanted address are sent first; empty as long as that is not known.

        A route to another router counts when that has been resolved; the one before it is taken as long.
        """
        if forward != "ipip":
            return Hop(self._neighbours.mac(address))
        found = self._usable(address)
        if found and (mac := self._neighbours.mac(found.gateway or address)):
            self._last[address] = Hop(mac, Way(found.source, found.mtu))
        return self._last.get(address, Hop())

    def mac(self, address: Address) -> bytes | None:
        """Of a neighbour."""
        return self._neighbours.mac(address)

    def _usable(self, address: Address) -> Route | None:
        """Its route, if that leaves by our interface: frames are sent out where they came in."""
        found = self._routes.route(address)
        return found if found and found.interface == self._interface else None

    def _want_neighbours(self) -> None:
        self._say_what_leaves_elsewhere()
        found = ((address, self._usable(address)) for address in self._tunnels)
        self._neighbours.want({*self._gates, *(way.gateway or address for address, way in found if way)})

    def _say_what_leaves_elsewhere(self) -> None:
        routes = {address: self._routes.route(address) for address in self._tunnels}
        elsewhere = frozenset(a for a, found in routes.items() if found and found.interface != self._interface)
        for address in sorted(elsewhere - self._elsewhere):
            log.warning("a real is reached by another interface", address=str(address), route=routes[address])
        self._elsewhere = elsewhere

    def _on_route(self) -> None:
        self._want_neighbours()
        self._on_change()

    def _on_neighbour(self, address: Address, mac: bytes) -> None:
        log.info("neighbour", address=str(address), mac=mac.hex(":"))
        self._on_change()
