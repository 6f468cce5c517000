"""What the packet path is told to do: services with their destinations, as values.

`lb.plan.desired` computes them from configuration, health, operator's overrides and neighbours; `lb.datapath` makes
the kernel's maps agree with them and reads them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from lb.addresses import Address, with_port

LOCAL = IPv4Address("127.0.0.1")
LOCAL6 = IPv6Address("::1")
"""The destination that is this director itself, for services of each family."""

PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOL_NUMBERS.items()}


class ServiceKey(NamedTuple):
    """Which packets. port 0: every port of the address. protocol: 6 or 17."""

    address: Address
    port: int
    protocol: int

    def __str__(self) -> str:
        return f"{PROTOCOL_NAMES.get(self.protocol, self.protocol)} {with_port(self.address, self.port)}"


@dataclass(frozen=True, slots=True)
class Way:
    """What more it takes to reach a real than a MAC. source: of the outer header; mtu: of the route, that included.

    interface: index of the one that packets leave by, 0 that by which they came in; own_mac: its own.
    """

    source: Address
    mtu: int
    interface: int = 0
    own_mac: bytes = bytes(6)


class Hop(NamedTuple):
    """Where packets for a real are sent first: the MAC, None while it is not known, and the way if there is one."""

    mac: bytes | None = None
    way: Way | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """A real of one service.

    weight: what schedulers count with; 0 takes no new connection and keeps those it has.
    mac: six bytes, or None while the neighbour is unresolved (then it takes no new connection either). With forward
    ipip it is that of the first router, if there is one, and way belongs to it.
    share: its weight when it is well. Hash schedulers build their tables with it, so that a real that goes down keeps
    its places and no client of another real moves. None: the weight, at least 1.
    upper: as many connections make it full, so that it takes no new one until it has fewer than `lower` (0: three
    quarters of upper). upper 0: it is never full.
    gone: its service has it no more, as long as that lasts. What becomes of its connections says `expire_nodest`.
    """

    address: Address
    weight: int
    mac: bytes | None = None
    share: int | None = None
    upper: int = 0
    lower: int = 0
    forward: str = "gate"
    way: Way | None = None
    gone: bool = False

    @property
    def local(self) -> bool:
        """Is it this director itself, served by the stack above us?"""
        return self.address.is_loopback

    @property
    def tunnelled(self) -> bool:
        """Does it get its packets inside others?"""
        return self.forward == "ipip" and not self.local

    @property
    def usable(self) -> bool:
        """May it be given a new connection?"""
        return self.weight > 0 and not self.gone and (self.local or self.mac is not None)


@dataclass(frozen=True, slots=True)
class Service:
    """A virtual service as the packet path holds it.

    also: further keys whose packets it is for, as a group; `key` stands for all of them.
    fallback: used while no destination is usable; its weight is 1. flags: the scheduler's, as ipvsadm names them.
    persistent_s: how long a client is remembered to belong to its real; 0: not at all. netmask: the leading bits of
    addresses that count as one client then. expire_quiescent: nobody belongs to a real of weight 0.
    quiescent: no real of it is ever gone.
    one_packet: each packet is scheduled by itself, and no connection remembered.
    expire_nodest: connections to a real that is gone or was removed end, and clients may open them anew; without it
    those to one that is gone are held up, and those to one that was removed go on.
    watched: SYNs that come again are counted, for each of its reals (and those of all others: the program has one way).
    """

    key: ServiceKey
    scheduler: str
    destinations: tuple[Destination, ...]
    fallback: Destination | None = None
    flags: tuple[str, ...] = ()
    persistent_s: int = 0
    netmask: int = 32
    expire_quiescent: bool = False
    one_packet: bool = False
    expire_nodest: bool = False
    quiescent: bool = True
    watched: bool = False
    also: tuple[ServiceKey, ...] = ()

    @property
    def keys(self) -> tuple[ServiceKey, ...]:
        """All of them, its own first."""
        return self.key, *self.also

    @property
    def tunnels(self) -> frozenset[int]:
        """The IP versions of the tunnels to any of those: a tunnel is of its real's, whatever goes through it."""
        members = (*self.destinations, self.fallback)
        return frozenset(member.address.version for member in members if member and member.tunnelled)
