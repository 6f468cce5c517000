"""What can happen to a director, each a value: frames that come, time that goes by, orders of user space.

A step names its objects by small numbers, taken modulo what there is, so that every list of steps is a possible story
and Hypothesis can shorten it at will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Protocol

from lb import abi
from lb.reference.control import Told
from lb.reference.maps import ConnectionKey
from lb.service import Destination, Service, ServiceKey
from lb.tcp import State
from tests.packet import frames
from tests.packet.frames import PLAIN, Ends, Shape
from tests.packet.pair import Pair
from tests.packet.world import TCP_KEY

CLIENTS = tuple(int(IPv4Address(a)) for a in ("10.0.0.1", "10.0.0.2", "192.0.2.200", "0.0.0.0", "255.255.255.255"))
CLIENT_PORTS = (1000, 1001, 80, 0, 65535)
ODD_PORTS = (0, 53, 80, 81, 443, 65535)
STRANGERS = tuple(int(IPv4Address(a)) for a in ("192.0.2.9", "192.0.3.10", "127.0.0.1"))
MACS = (None, bytes.fromhex("020000000003"), bytes.fromhex("ffffffffffff"), bytes.fromhex("020000000000"))
"""Whom a frame is sent to, or who claims an address; None: us."""
PREDECESSORS = (bytes.fromhex("020000000bad"), frames.CLIENT_MAC)
"""Of whom the second one sends the frames itself."""

Edits = tuple[tuple[int, int], ...]


class Step(Protocol):
    """Does something to both."""

    def run(self, pair: Pair) -> None:
        """And raises AssertionError when they disagree."""


def pick(services: tuple[Service, ...], number: int) -> ServiceKey:
    """One of the services; somebody else's when there is none."""
    return services[number % len(services)].key if services else TCP_KEY


@dataclass(frozen=True)
class Target:
    """From where to where. port: an odd one instead of the service's; stranger: an address instead of the service's."""

    service: int = 0
    client: int = 0
    client_port: int = 0
    port: int | None = None
    stranger: int | None = None
    protocol: int | None = None
    mac: int = 0

    def ends(self, pair: Pair) -> Ends:
        """In the present configuration."""
        key = pick(pair.configuration.services, self.service)
        return Ends(
            destination=MACS[self.mac] or pair.configuration.mac,
            client=CLIENTS[self.client],
            virtual=int(key.address) if self.stranger is None else STRANGERS[self.stranger],
            client_port=CLIENT_PORTS[self.client_port],
            virtual_port=key.port if self.port is None else ODD_PORTS[self.port],
            protocol=key.protocol if self.protocol is None else self.protocol,
        )


# -------------------------------------------------------------------- frames


@dataclass(frozen=True)
class Send:
    """One packet. edits: bytes changed in it; cut: bytes taken from its end."""

    target: Target
    shape: Shape = PLAIN
    edits: Edits = ()
    cut: int = 0

    def frame(self, pair: Pair) -> bytes:
        """As it is sent."""
        whole = frames.edited(frames.packet(self.target.ends(pair), self.shape), self.edits)
        return whole[: max(frames.IP_AT, len(whole) - self.cut)]

    def run(self, pair: Pair) -> None:
        """Sends it."""
        pair.send(self.frame(pair))


@dataclass(frozen=True)
class Life:
    """Segments with these flags, one after the other."""

    target: Target
    flags: tuple[int, ...]

    def run(self, pair: Pair) -> None:
        """Sends them."""
        for flags in self.flags:
            Send(self.target, Shape(flags=flags)).run(pair)


@dataclass(frozen=True)
class EveryFlags:
    """A connection in the state to which `first` leads, then 64 segments, one for each of the flags from FIN to URG;
    ECN's two are `upper`."""

    target: Target
    first: tuple[int, ...]
    upper: int

    def run(self, pair: Pair) -> None:
        """Sends them."""
        for flags in range(64):
            Life(self.target, (*self.first, flags | self.upper << 6)).run(pair)


@dataclass(frozen=True)
class Crowd:
    """Many clients, each with the same flags."""

    target: Target
    clients: int
    stride: int
    flags: int = 2

    def run(self, pair: Pair) -> None:
        """Sends one packet each."""
        ends = self.target.ends(pair)
        for number in range(self.clients):
            other = replace(ends, client=(ends.client + number * self.stride) % 2**32)
            pair.send(frames.packet(other, Shape(flags=self.flags)))


@dataclass(frozen=True)
class Variations:
    """A packet in all the ways of `frames.cuts`, `lengths` or `flips`."""

    packet: Send
    way: str
    mask: int = 0xFF

    def run(self, pair: Pair) -> None:
        """Sends them."""
        frame = self.packet.frame(pair)
        if len(frame) < frames.IP_AT + 40:
            frame += bytes(40)  # the fields of TCP's header that `lengths` changes are to be within the frame
        for varied in self._of(frame):
            pair.send(varied)

    def _of(self, frame: bytes) -> Iterator[bytes]:
        match self.way:
            case "cuts":
                return frames.cuts(frame)
            case "lengths":
                return frames.lengths(frame)
            case _:
                return frames.flips(frame, self.mask)


@dataclass(frozen=True)
class Ask:
    """ARP's question for an address."""

    target: Target
    operation: int = 1
    edits: Edits = ()
    cut: int = 0

    def run(self, pair: Pair) -> None:
        """Asks."""
        whole = frames.edited(frames.question(self.target.ends(pair), self.operation), self.edits)
        pair.send(whole[: max(frames.IP_AT, len(whole) - self.cut)])


@dataclass(frozen=True)
class Claim:
    """Somebody says where an address is, and asks for another or (as who announces does) the same one."""

    target: Target
    asked: Target
    mac: int = 1
    operation: int = 1
    edits: Edits = ()

    def run(self, pair: Pair) -> None:
        """Sends it."""
        mac = MACS[self.mac] or pair.configuration.mac
        frame = frames.claim(self.target.ends(pair), self.asked.ends(pair), mac, self.operation)
        pair.send(frames.edited(frame, self.edits))


@dataclass(frozen=True)
class Wrapped:
    """A packet in something that is foreign so far: a tag, two tags, IPv6."""

    target: Target
    how: str

    def run(self, pair: Pair) -> None:
        """Sends it."""
        ends = self.target.ends(pair)
        plain = frames.packet(ends)
        made = {
            "tag": frames.tagged(plain),
            "two tags": frames.tagged(frames.tagged(plain), 0x88A8),
            "ipv6": frames.in_ipv6(ends),
        }
        pair.send(made[self.how])


@dataclass(frozen=True)
class Noise:
    """Any bytes behind our MAC and an EtherType of IPv4 or ARP."""

    data: bytes
    arp: bool = False

    def run(self, pair: Pair) -> None:
        """Sends it."""
        ethertype = b"\x08\x06" if self.arp else b"\x08\x00"
        pair.send(pair.configuration.mac + frames.CLIENT_MAC + ethertype + self.data)


# -------------------------------------------------------------------- time


@dataclass(frozen=True)
class Elapse:
    """lag_ns: how far the program's clock is behind user space's from now on."""

    ticks: int
    nanoseconds: int = 0
    lag_ns: int = 0

    def run(self, pair: Pair) -> None:
        """Waits."""
        pair.elapse((self.ticks << abi.TICK_SHIFT) + self.nanoseconds, self.lag_ns)


@dataclass(frozen=True)
class ToTheEnd:
    """To the last tick of some connection's life and so many further, if that is not past. -1: the youngest entry's."""

    connection: int
    ticks: int

    def run(self, pair: Pair) -> None:
        """Waits."""
        entries = list(pair.maps.connections.values())
        if entries:
            entry = entries[self.connection % len(entries)]
            end_t = entry.last_seen_t + pair.configuration.timeouts_t[entry.state] + self.ticks
            pair.elapse(max(0, end_t - abi.tick(pair.clock.now_ns)) << abi.TICK_SHIFT)


@dataclass(frozen=True)
class ToTheLeasesEnd:
    """And so many nanoseconds further, if that is not past. referring: to the end of asking the predecessor."""

    nanoseconds: int
    referring: bool = False

    def run(self, pair: Pair) -> None:
        """Waits."""
        lease = pair.maps.lease
        end_ns = lease.refer_until_ns if self.referring else lease.until_ns
        pair.elapse(max(0, end_ns + self.nanoseconds - pair.clock.program_ns))


# -------------------------------------------------------------------- user space


@dataclass(frozen=True)
class Lease:
    """Renewed, or given up with 0."""

    seconds: float

    def run(self, pair: Pair) -> None:
        """Renews it."""
        pair.lease(self.seconds)


@dataclass(frozen=True)
class Refer:
    """To a predecessor, or no more with 0. lease_s: with a new lease, as after a takeover; None: it stays as it is."""

    predecessor: int
    seconds: float
    lease_s: float | None = None

    def run(self, pair: Pair) -> None:
        """Says so."""
        if self.lease_s is not None:
            pair.lease(self.lease_s)
        pair.refer(PREDECESSORS[self.predecessor], self.seconds)


@dataclass(frozen=True)
class Sweep:
    """One or more."""

    times: int = 1

    def run(self, pair: Pair) -> None:
        """Sweeps."""
        for _ in range(self.times):
            pair.sweep()


@dataclass(frozen=True)
class Restart:
    """Of the process."""

    def run(self, pair: Pair) -> None:
        """Ends it and starts it."""
        pair.restart()


@dataclass(frozen=True)
class Set:
    """One real of a service becomes this: it is added, drained, weighed, moved to another MAC, loses it, comes back."""

    service: int
    real: Destination

    def run(self, pair: Pair) -> None:
        """Applies it."""
        _edit(pair, self.service, lambda service: _with(service, self.real))


@dataclass(frozen=True)
class Remove:
    """One real leaves its service."""

    service: int
    real: int

    def run(self, pair: Pair) -> None:
        """Applies it."""

        def without(service: Service) -> Service:
            reals = service.destinations
            place = self.real % max(1, len(reals))
            return replace(service, destinations=reals[:place] + reals[place + 1 :])

        _edit(pair, self.service, without)


@dataclass(frozen=True)
class Fallback:
    """A service gets another fallback, or none."""

    service: int
    real: Destination | None

    def run(self, pair: Pair) -> None:
        """Applies it."""
        _edit(pair, self.service, lambda service: replace(service, fallback=self.real))


@dataclass(frozen=True)
class LoseMacs:
    """All neighbours of a service are forgotten."""

    service: int

    def run(self, pair: Pair) -> None:
        """Applies it."""

        def unresolved(service: Service) -> Service:
            return replace(service, destinations=tuple(replace(real, mac=None) for real in service.destinations))

        _edit(pair, self.service, unresolved)


@dataclass(frozen=True)
class Flap:
    """A real leaves its service, for so many sweeps each time, and comes back in between; it is gone in the end."""

    service: int
    real: int
    sweeps: tuple[int, ...]

    def run(self, pair: Pair) -> None:
        """Applies each."""
        before = pair.configuration.services
        for times in self.sweeps:
            pair.change(before)
            Remove(self.service, self.real).run(pair)
            Sweep(times).run(pair)


@dataclass(frozen=True)
class Reschedule:
    """A service gets another scheduler, so that there is another program."""

    service: int
    scheduler: str

    def run(self, pair: Pair) -> None:
        """Applies it."""
        _edit(pair, self.service, lambda service: replace(service, scheduler=self.scheduler))


@dataclass(frozen=True)
class Swap:
    """Quite another configuration."""

    services: tuple[Service, ...]
    mac: bytes | None = None
    timeouts: tuple[tuple[str, float], ...] = ()

    def run(self, pair: Pair) -> None:
        """Applies it."""
        pair.change(self.services, self.mac, **dict(self.timeouts))


@dataclass(frozen=True)
class Report:
    """A connection as a peer tells it. real: a destination of the service by its place, or an unknown address.
    state: None is what fits the protocol."""

    target: Target
    real: int
    state: int | None
    idle_s: int


@dataclass(frozen=True)
class Install:
    """What a peer tells, each connection at most once."""

    reports: tuple[Report, ...]

    def run(self, pair: Pair) -> None:
        """Installs it."""
        told = {}
        for report in self.reports:
            ends = report.target.ends(pair)
            services = pair.configuration.services
            reals = services[report.target.service % len(services)].destinations if services else ()
            known = {place: real.address for place, real in enumerate(reals)}
            key = ConnectionKey(ends.client, ends.virtual, ends.client_port, ends.virtual_port, ends.protocol)
            address = known.get(report.real, IPv4Address("192.0.2.101"))
            fitting = State.ESTABLISHED if ends.protocol == frames.TCP else State.UDP
            told[key] = Told(key, address, fitting if report.state is None else report.state, report.idle_s)
        pair.install(tuple(told.values()))


@dataclass(frozen=True)
class Through:
    """A connection that lives through something: its real stays, or it ran out."""

    target: Target
    first: tuple[int, ...]
    steps: tuple[Step, ...]
    then: tuple[int, ...]

    def run(self, pair: Pair) -> None:
        """All of it."""
        Life(self.target, self.first).run(pair)
        for step in self.steps:
            step.run(pair)
        Life(self.target, self.then).run(pair)


def _with(service: Service, real: Destination) -> Service:
    reals = service.destinations
    others = tuple(real if other.address == real.address else other for other in reals)
    return replace(service, destinations=others if real in others else (*reals, real))


def _edit(pair: Pair, number: int, edit: Callable[[Service], Service]) -> None:
    services = list(pair.configuration.services)
    if services:
        place = number % len(services)
        services[place] = edit(services[place])
        pair.change(tuple(services))
