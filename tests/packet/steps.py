"""What can happen to a director, each a value: frames that come, time that goes by, orders of user space.

A step names its objects by small numbers, taken modulo what there is, so that every list of steps is a possible story
and Hypothesis can shorten it at will.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from lb import abi
from lb.reference.maps import IPV6, numbered
from lb.service import Service, ServiceKey
from tests.packet import frames
from tests.packet.frames import PLAIN, Ends, Shape
from tests.packet.pair import VIRTUAL_MAC, Pair
from tests.packet.world import TCP_KEY

CLIENTS = tuple(int(IPv4Address(a)) for a in ("10.0.0.1", "10.0.0.2", "192.0.2.200", "0.0.0.0", "255.255.255.255"))
CLIENTS6 = tuple(
    numbered(IPv6Address(a)) for a in ("2001:db8:c::1", "2001:db8:c::2", "2001:db8:c:1::1", "::", "ff02::1")
)
CLIENT_PORTS = (1000, 1001, 80, 0, 65535)
ODD_PORTS = (0, 53, 80, 81, 443, 65535)
STRANGERS = tuple(int(IPv4Address(a)) for a in ("192.0.2.9", "192.0.3.10", "127.0.0.1"))
STRANGERS6 = tuple(numbered(IPv6Address(a)) for a in ("2001:db8::9", "2001:db8:1::11", "::192.0.2.10"))
MACS = (None, VIRTUAL_MAC, *map(bytes.fromhex, ("020000000003", "ffffffffffff", "020000000000")))
"""Whom a frame is sent to, or who claims an address; None: us."""
ROUTERS, ROUTERS6 = (*CLIENTS[:3], STRANGERS[0]), (*CLIENTS6[:3], STRANGERS6[0])
TAGS = ((), (0x8100,), (0x88A8,), (0x88A8, 0x8100), (0x8100, 0x8100), (0x8100, 0x88A8, 0x8100), (0x9100,))
"""EtherTypes, the first one outermost."""
_RIVAL = bytes.fromhex("020000000bad")
_OTHERS = tuple(bytes((2, 0, 0, 0, 9, n)) for n in range(5))
DIRECTORS = ((_RIVAL,), (frames.CLIENT_MAC,), (_RIVAL, *_OTHERS, frames.CLIENT_MAC))
"""Of whom the second one, and the last of the third, send the frames themselves."""

Edits = tuple[tuple[int, int], ...]


class Step(Protocol):
    """Does something to both."""

    def run(self, pair: Pair) -> None:
        """And raises AssertionError when they disagree."""


def pick(services: tuple[Service, ...], number: int) -> ServiceKey:
    """One of the services, its other keys being services too; somebody else's when there is none."""
    if not services:
        return TCP_KEY
    turn, place = divmod(number, len(services))
    keys = services[place].keys
    return keys[turn % len(keys)]


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
        clients, strangers = (CLIENTS, STRANGERS) if key.address.version == 4 else (CLIENTS6, STRANGERS6)
        return Ends(
            destination=MACS[self.mac] or pair.configuration.mac,
            client=clients[self.client],
            virtual=numbered(key.address) if self.stranger is None else strangers[self.stranger],
            client_port=CLIENT_PORTS[self.client_port],
            virtual_port=key.port if self.port is None else ODD_PORTS[self.port],
            protocol=key.protocol if self.protocol is None else self.protocol,
        )


# -------------------------------------------------------------------- frames


@dataclass(frozen=True)
class Send:
    """One packet. edits: bytes changed in it; cut: bytes taken from its end; then it is tagged."""

    target: Target
    shape: Shape = PLAIN
    edits: Edits = ()
    cut: int = 0
    tags: int = 0

    def frame(self, pair: Pair) -> bytes:
        """As it is sent."""
        whole = frames.edited(self.whole(pair), self.edits)
        return frames.tagged(whole[: max(frames.IP_AT, len(whole) - self.cut)], *TAGS[self.tags])

    def whole(self, pair: Pair) -> bytes:
        """Before anything happens to it."""
        return frames.packet(self.target.ends(pair), self.shape)

    def run(self, pair: Pair) -> None:
        """Sends it."""
        pair.send(self.frame(pair))


@dataclass(frozen=True)
class Error(Send):
    """ICMP about a packet of a connection, from the real to the client, of this shape."""

    kind: int = 3
    code: int = 4
    router: int = 0
    quoted: int = 8

    def whole(self, pair: Pair) -> bytes:
        """Before anything happens to it."""
        ends = self.target.ends(pair)
        router = (ROUTERS6 if ends.virtual & IPV6 else ROUTERS)[self.router]
        return frames.error(ends, self.shape, self.kind, self.code, router, self.quoted)


@dataclass(frozen=True)
class Echo(Send):
    """A question to the kernel: any ICMP that is no error. shape: of its IP."""

    kind: int = 8

    def whole(self, pair: Pair) -> bytes:
        """Before anything happens to it."""
        data = bytes((self.kind, 0, 0, 0, 0, 1, 0, 1)) + frames.PAYLOAD[: self.shape.payload]
        return frames.icmp(self.target.ends(pair), data, self.shape)


@dataclass(frozen=True)
class Pieces:
    """A datagram in fragments, which come in this order (the same one may come twice, another never)."""

    target: Target
    order: tuple[int, ...]
    shape: Shape = PLAIN
    number: int = 3
    piece: int = 3
    tags: int = 0
    overlap: int = 0

    def run(self, pair: Pair) -> None:
        """Sends them."""
        pieces = list(frames.fragments(self.target.ends(pair), self.shape, self.number, self.piece, self.overlap))
        for place in self.order:
            pair.send(frames.tagged(pieces[place % len(pieces)], *TAGS[self.tags]))


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
            low = (ends.client + number * self.stride) % 2**32
            other = replace(ends, client=ends.client >> 32 << 32 | low)
            pair.send(frames.packet(other, Shape(flags=self.flags)))


@dataclass(frozen=True)
class TooMany:
    """A packet from each port, until one is too big for a tunnel; that one until no more are answered in this tick."""

    target: Target

    def run(self, pair: Pair) -> None:
        """Sends them."""
        for port in range(len(CLIENT_PORTS)):
            target = replace(self.target, client_port=port)
            shape = Shape(payload=1_240 if target.ends(pair).virtual & IPV6 else 60)
            packet, before = Send(target, shape), pair.seen["TOO_BIG"]
            packet.run(pair)
            for _ in range(abi.ANSWERS_A_TICK if pair.seen["TOO_BIG"] > before else 0):
                packet.run(pair)


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
    """ARP's question for an address, or neighbour discovery's."""

    target: Target
    operation: int = 1
    edits: Edits = ()
    cut: int = 0
    tags: int = 0

    def run(self, pair: Pair) -> None:
        """Asks."""
        whole = frames.edited(frames.question(self.target.ends(pair), self.operation), self.edits)
        pair.send(frames.tagged(whole[: max(frames.IP_AT, len(whole) - self.cut)], *TAGS[self.tags]))


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
class OverIpv6:
    """A packet between IPv6 addresses that end like those of IPv4."""

    target: Target

    def run(self, pair: Pair) -> None:
        """Sends it."""
        pair.send(frames.in_ipv6(self.target.ends(pair)))


@dataclass(frozen=True)
class Noise:
    """Any bytes behind our MAC and an EtherType."""

    data: bytes
    ethertype: int = 0x0800

    def run(self, pair: Pair) -> None:
        """Sends it."""
        pair.send(pair.configuration.mac + frames.CLIENT_MAC + self.ethertype.to_bytes(2, "big") + self.data)


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
            end_t = entry.last_seen_t + pair.configuration.timeout_t(entry) + self.ticks
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
