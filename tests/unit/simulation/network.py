"""What is between machines: a way for datagrams that loses, repeats, delays and reorders, and a segment with ARP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.unit.simulation.clients import Client
    from tests.unit.simulation.machine import Machine
    from tests.unit.simulation.world import World


class Network:
    """loss, repeats: probabilities; delay_s: the longest way. cut: (from, to) between directors, clients apart.

    filtered: the same for heartbeats and sync only. unplugged: machines without their cable. spare: is there another
    cable, for heartbeats only; without_spare: machines where that is out.
    """

    def __init__(self, world: World, loss: float, repeats: float, delay_s: float, spare: bool) -> None:
        self.world = world
        self.spare = spare
        self.without_spare: set[str] = set()
        self.loss, self.repeats, self.delay_s = loss, repeats, delay_s
        self.cut: set[tuple[str, str]] = set()
        self.filtered: set[tuple[str, str]] = set()
        self.unplugged: set[str] = set()

    def reaches(self, source: str, target: str, link: str = "main") -> bool:
        """Would a datagram get there?"""
        way, out = (source, target), self.unplugged if link == "main" else self.without_spare
        return way not in self.cut and way not in self.filtered and not {source, target} & out

    @property
    def _links(self) -> tuple[str, ...]:
        return ("main", "spare") if self.spare else ("main",)

    def both_ways(self, one: str, other: str) -> bool:
        """TCP needs that."""
        return self.reaches(one, other) and self.reaches(other, one)

    def hear_each_other(self, one: str, other: str) -> bool:
        """Over any links?"""
        ways = ((one, other), (other, one))
        return all(any(self.reaches(*way, link) for link in self._links) for way in ways)

    def send(self, source: str, target: str, data: bytes) -> None:
        """A heartbeat."""
        for link in self._links:
            self._send(source, target, data, link)

    def _send(self, source: str, target: str, data: bytes, link: str) -> None:
        chance = self.world.random
        for _ in range(1 + (chance.random() < self.repeats)):
            if chance.random() >= self.loss:
                self.world.at(chance.uniform(0.0001, self.delay_s), lambda: self._deliver(source, target, data, link))

    def _deliver(self, source: str, target: str, data: bytes, link: str) -> None:
        if self.reaches(source, target, link):
            self.world.nodes[target].arrived(data, link)

    def unplug(self, name: str) -> None:
        """Its cable is out, and its interface says so."""
        self.unplugged.add(name)
        self.world.nodes[name].carrier_changed()

    def mend(self) -> None:
        """All of it."""
        self.cut.clear()
        self.filtered.clear()
        self.without_spare.clear()
        unplugged, self.unplugged = self.unplugged, set()
        for name in sorted(unplugged):
            self.world.nodes[name].carrier_changed()


class Segment:
    """Where clients, directors and reals are: who hears whose announcements, who answers for the address."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clients: list[Client] = []

    def reaches(self, one: str, other: str) -> bool:
        """Does a frame get from one director to the other?"""
        network = self.world.network
        return (one, other) not in network.cut and not {one, other} & network.unplugged

    def _others(self, machine: Machine) -> Iterator[Machine]:
        for other in self.world.nodes.values():
            if other is not machine and other.powered and self.reaches(machine.name, other.name):
                yield other

    def announce(self, machine: Machine, group: str) -> None:
        """It says that the group's address is there."""
        if machine.name in self.world.network.unplugged:
            return
        for client in self.clients:
            if client.group == group:
                client.learns(machine)
        for other in self._others(machine):
            other.kernel.claimed_by(machine.kernel.mac, self.world.virtuals[group], self.world.now_s)
            if other.process and other.process.running:
                other.process.claimed(group)

    def holder(self, asking: Machine, group: str) -> str:
        """Who else answers for the address; empty: nobody."""
        address, now_s = self.world.virtuals[group], self.world.now_s
        return next((other.name for other in self._others(asking) if other.kernel.answers(address, now_s)), "")

    def ask(self, group: str) -> Machine | None:
        """A client asks who has the address."""
        address, now_s = self.world.virtuals[group], self.world.now_s
        reachable = [m for m in self.world.nodes.values() if m.powered and m.name not in self.world.network.unplugged]
        answering = [m for m in reachable if m.kernel.answers(address, now_s)]
        return self.world.random.choice(answering) if answering else None
