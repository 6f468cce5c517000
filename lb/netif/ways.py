"""How packets reach the reals: by which interface, to which neighbour first, and what a tunnel needs.

`gate` rewrites MACs, so its reals are neighbours: on the only interface, or where there are several, on the one that
the routing table names. A tunnel leads anywhere: the routing table says to whom first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog

from lb.addresses import Address
from lb.netif.links import Link, link
from lb.netif.neighbours import Neighbours
from lb.netif.routes import Route, Routes
from lb.service import Hop, Way

log = structlog.get_logger(__name__)

_Target = tuple[Address, str]
"""An address and the forwarding method by which it is reached."""


class _Step(NamedTuple):
    """The first on a way: who gets the packet on which interface."""

    interface: str
    neighbour: Address
    route: Route | None


class Ways:
    """Calls `on_change()` each time one becomes known or another. interfaces: that of the virtual addresses first."""

    def __init__(self, interfaces: Sequence[str], on_change: Callable[[], None]) -> None:
        self._first = interfaces[0]
        self._on_change = on_change
        self._targets: frozenset[_Target] = frozenset()
        self._astray: frozenset[_Target] = frozenset()
        self._last: dict[_Target, Hop] = {}
        self._links: dict[str, Link] = {}
        self._neighbours = {name: Neighbours(name, self._on_neighbour) for name in interfaces}
        self._routes = Routes(self._on_route)

    async def start(self) -> None:
        """Begin to listen. Raises NetworkError if there is no such interface."""
        for neighbours in self._neighbours.values():
            await neighbours.start()
        await self._routes.start()

    def close(self) -> None:
        """Stop listening and asking; what the kernel knows stays."""
        for neighbours in self._neighbours.values():
            neighbours.close()
        self._routes.close()

    def want(self, peers: Iterable[Address], gates: Iterable[Address], tunnels: Iterable[Address]) -> None:
        """Keep the ways to exactly these known from now on. peers: neighbours on the first interface."""
        self._peers = frozenset(peers)
        self._targets = frozenset([(a, "gate") for a in gates] + [(a, "ipip") for a in tunnels])
        self._last = {target: hop for target, hop in self._last.items() if target in self._targets}
        self._routes.want({address for address, forward in self._targets if self._is_routed(forward)})
        self._want_neighbours()

    def hop(self, address: Address, forward: str) -> Hop:
        """Where packets for a wanted address are sent first; empty as long as that is not known.

        Another route counts when its first neighbour has been resolved; the one before it is taken as long.
        """
        step = self._step((address, forward))
        if step and (mac := self._neighbours[step.interface].mac(step.neighbour)):
            self._last[address, forward] = Hop(mac, self._way(step))
        return self._last.get((address, forward), Hop())

    def mac(self, address: Address) -> bytes | None:
        """Of a neighbour on the first interface."""
        return self._neighbours[self._first].mac(address)

    def _is_routed(self, forward: str) -> bool:
        return forward == "ipip" or len(self._neighbours) > 1

    def _step(self, target: _Target) -> _Step | None:
        """None: no route, or none that helps: by an interface that is not ours, or by a router, for gate."""
        address, forward = target
        if not self._is_routed(forward):
            return _Step(self._first, address, None)
        found = self._routes.route(address)
        if found is None or found.interface not in self._neighbours or (found.gateway and forward == "gate"):
            return None
        return _Step(found.interface, found.gateway or address, found)

    def _way(self, step: _Step) -> Way | None:
        if step.route is None:
            return None
        if len(self._neighbours) == 1:
            return Way(step.route.source, step.route.mtu)
        own = self._links[step.interface]
        return Way(step.route.source, step.route.mtu, own.index, own.mac)

    def _want_neighbours(self) -> None:
        self._links = {name: link(name) for name in self._neighbours}
        steps = {target: self._step(target) for target in self._targets}
        self._say_who_is_not_reached(target for target, step in steps.items() if step is None)
        for name, neighbours in self._neighbours.items():
            wanted = {step.neighbour for step in steps.values() if step and step.interface == name}
            neighbours.want(wanted | self._peers if name == self._first else wanted)

    def _say_who_is_not_reached(self, targets: Iterable[_Target]) -> None:
        """Once. That there is no route at all is said elsewhere."""
        astray = frozenset(target for target in targets if self._routes.route(target[0]))
        for address, forward in astray - self._astray:
            log.warning("a real is not reached", address=str(address), forward=forward, **_told(self._routes, address))
        self._astray = astray

    def _on_route(self) -> None:
        self._want_neighbours()
        self._on_change()

    def _on_neighbour(self, address: Address, mac: bytes) -> None:
        log.info("neighbour", address=str(address), mac=mac.hex(":"))
        self._on_change()


def _told(routes: Routes, address: Address) -> dict[str, str]:
    found = routes.route(address)
    return {"interface": found.interface, "router": str(found.gateway or "none")} if found else {}
