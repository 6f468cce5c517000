"""What is configured and what the maps hold (bpf/maps.h, bpf/abi.h). Pure.

Times ending in _t are ticks of 2^30 ns, as everywhere in the packet path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from lb import abi
from lb.addresses import Address
from lb.limits import Limits
from lb.options import Options
from lb.reference.embryo import Embryo, Embryos
from lb.schedule import Scheduling
from lb.service import Destination, Service, ServiceKey
from lb.tcp import TIMEOUTS_S, State

IPV6 = 1 << 128
"""Set in the numbers of IPv6 addresses, so that no two addresses have the same."""


def numbered(address: Address) -> int:
    """An address as a number."""
    return int(address) | (IPV6 if address.version == 6 else 0)


def address_of(number: int) -> Address:
    """The inverse of `numbered`."""
    return IPv6Address(number ^ IPV6) if number & IPV6 else IPv4Address(number)


@dataclass(frozen=True)
class Configuration:
    """What user space was last told. mac: six bytes, the interface's; others: those of further ones; virtual_mac: at
    which the virtual addresses are, if at neither.

    came_by: index of the interface by which all packets here come in.
    """

    services: tuple[Service, ...]
    mac: bytes
    timeouts_s: tuple[tuple[State, float], ...] = tuple(TIMEOUTS_S.items())
    limits: Limits = field(default_factory=Limits)
    others: tuple[bytes, ...] = ()
    came_by: int = 1
    virtual_mac: bytes = b""

    @property
    def macs(self) -> tuple[bytes, ...]:
        """Of all interfaces."""
        return self.mac, *self.others

    def is_sent_to_us(self, mac: bytes) -> bool:
        """May a frame to this MAC be for a virtual?"""
        return mac in self.macs or mac == self.virtual_mac

    @property
    def compiled(self) -> object:
        """The part that is compiled in: where it differs, another program is swapped in."""
        services = [(service.key, service.scheduler) for service in self.services]
        everywhere = self.macs, self.virtual_mac, self.timeouts_s, self.limits
        return services, everywhere, Scheduling.of(self.services), Options.of(self.services)

    @cached_property
    def index(self) -> dict[tuple[int, int, int], int]:
        """The place of each service, by address, port and protocol as numbers; of a group by each of them."""
        return {
            (numbered(key.address), key.port, key.protocol): place
            for place, service in enumerate(self.services)
            for key in service.keys
        }

    @cached_property
    def leaders(self) -> dict[ServiceKey, ServiceKey]:
        """The key of a group, by its further ones."""
        return {key: service.key for service in self.services for key in service.also}

    @cached_property
    def served(self) -> frozenset[tuple[int, int]]:
        """Address and protocol of all services."""
        return frozenset((address, protocol) for address, _, protocol in self.index)

    @cached_property
    def virtuals(self) -> frozenset[int]:
        """Their addresses."""
        return frozenset(address for address, _ in self.served)

    @property
    def families(self) -> set[int]:
        """The IP versions of its virtuals; 4 if there are none."""
        return {service.key.address.version for service in self.services} or {4}

    @cached_property
    def timeouts_t(self) -> dict[State, int]:
        """Ticks without a packet after which a connection still lives."""
        return {state: abi.ticks(seconds) for state, seconds in self.timeouts_s}

    @cached_property
    def persistent_t(self) -> dict[ServiceKey, int]:
        """The same for the templates of persistent services."""
        return {s.key: abi.ticks(s.persistent_s) for s in self.services if s.persistent_s}

    def timeout_t(self, entry: Connection | Embryo) -> int:
        """Of either. -1: it does not live at all."""
        if entry.state is State.TEMPLATE:
            return self.persistent_t.get(entry.real.service, -1)
        return self.timeouts_t[entry.state]


class RealKey(NamedTuple):
    """One real of one service."""

    service: ServiceKey
    address: Address


@dataclass(slots=True)
class Load:
    """A row of `loads`: connections by whether they are active, those that ran out and are still there among them.

    upper: as many make it full, 0: none do; lower: fewer than so many make it free again.
    """

    active: int = 0
    inactive: int = 0
    upper: int = 0
    lower: int = 0
    full: bool = False


@dataclass(slots=True)
class Real:
    """A row of `reals`, of `real_stats` and of `loads`.

    idle_sweeps: how often it was found retired and without connections. repeats: SYNs that came again, unanswered.
    """

    destination: Destination
    fallback: bool = False
    retired: bool = False
    idle_sweeps: int = 0
    packets: int = 0
    bytes: int = 0
    connections: int = 0
    repeats: int = 0
    load: Load = field(default_factory=Load)


class ConnectionKey(NamedTuple):
    """Addresses as `numbered`. template: 1 for the key of a template, whose client is masked and has no port."""

    client: int
    virtual: int
    client_port: int
    virtual_port: int
    protocol: int
    template: int = 0

    @property
    def is_ipv6(self) -> bool:
        """Of its addresses."""
        return bool(self.virtual & IPV6)

    @property
    def packed(self) -> bytes:
        """As it lies in memory: 16 bytes, of IPv6 40."""
        size = 16 if self.is_ipv6 else 4
        addresses = ((number & ~IPV6).to_bytes(size, "big") for number in (self.client, self.virtual))
        ports = (port.to_bytes(2, "big") for port in (self.client_port, self.virtual_port))
        return b"".join((*addresses, *ports, bytes((self.protocol, self.template, 0, 0))))


@dataclass(slots=True)
class Connection:
    """A row of `connections`; of a template if its state says so."""

    real: RealKey
    state: State
    last_seen_t: int
    synced_t: int


class Candidate(NamedTuple):
    """A usable real, its weight, and its position in the service."""

    real: RealKey
    weight: int
    position: int


@dataclass(slots=True)
class Locality:
    """The reals that serve one destination address, by their positions."""

    members: set[int] = field(default_factory=set)
    used_t: int = 0
    changed_t: int = 0


class DatagramKey(NamedTuple):
    """One that comes in fragments. Addresses as `numbered`; id: as its fragments have it; protocol: 0 of IPv6."""

    client: int
    virtual: int
    id: int
    protocol: int


class Fate(Enum):
    """What became of a datagram's first fragment, if no real has it."""

    WAITS = "it has not come"
    PASSED = "the kernel has it"
    DROPPED = "nobody has it"


@dataclass(slots=True)
class Datagram:
    """A row of `datagrams`. first_bytes: of it, in its first fragment."""

    fate: RealKey | Fate
    seen_t: int
    first_bytes: int = 0


class Early(NamedTuple):
    """A record of the ring of those set aside; an empty frame says that the first one has come."""

    datagram: DatagramKey
    frame: bytes


@dataclass(slots=True)
class Schedule:
    """A service's row of `schedules`, with its parts of `slots`, `lists` and `localities`.

    members: of the service, in order. table: None where nobody is. localities: by the destination's address.
    """

    members: tuple[RealKey, ...] = ()
    table: tuple[RealKey | None, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    localities: dict[int, Locality] = field(default_factory=dict)
    cursor: int = 0


@dataclass(slots=True)
class Lease:
    """Until when this host may answer, and until when the first of `directors` (MACs) is asked what it knows."""

    until_ns: int = 0
    refer_until_ns: int = 0
    directors: tuple[bytes, ...] = (bytes(6),)


class Event(NamedTuple):
    """A record of the ring."""

    key: ConnectionKey
    real: Address
    state: State
    last_seen_t: int


@dataclass
class Maps:
    """Everything that lasts from one packet to the next.

    answered: the tick of the last ICMP error, and how many were sent in it. tunnels: the IP versions of those that the
    program knows. families: the IP versions that have a table of connections. allowances: when a client's bucket is
    full again, in nanoseconds. denied: packets by deny list.
    """

    compiled: object = None
    families: set[int] = field(default_factory=set)
    allowances: dict[int, int] = field(default_factory=dict)
    denied: Counter[str] = field(default_factory=Counter)
    connections: dict[ConnectionKey, Connection] = field(default_factory=dict)
    embryos: Embryos = field(default_factory=Embryos)
    reals: dict[RealKey, Real] = field(default_factory=dict)
    schedules: list[Schedule] = field(default_factory=list)
    lease: Lease = field(default_factory=Lease)
    answered: tuple[int, int] = (0, 0)
    tunnels: frozenset[int] = frozenset()
    counters: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)
    datagrams: dict[DatagramKey, Datagram] = field(default_factory=dict)
    earlies: list[Early] = field(default_factory=list)
    pace: tuple[int, int] = 0, 0
    """A tick, and how many fragments were set aside in it."""

    def drain_events(self) -> Iterator[Event]:
        """What waits in the ring, oldest first; it is gone then."""
        waiting, self.events = self.events, []
        yield from waiting

    def drain_earlies(self) -> Iterator[Early]:
        """The same of those set aside."""
        waiting, self.earlies = self.earlies, []
        yield from waiting
