"""What user space does to the maps while packets flow (lb.datapath). Pure.

Whatever it does: a connection keeps its real, and a real its row, as long as the connection lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lb import abi
from lb.addresses import Address
from lb.connections import Ours
from lb.reference.embryo import Embryo
from lb.reference.load import add_to, mark_full
from lb.reference.maps import (
    Candidate,
    Configuration,
    Connection,
    ConnectionKey,
    Maps,
    Real,
    RealKey,
    Schedule,
    address_of,
)
from lb.reference.persist import template_key
from lb.reference.service import TCP
from lb.schedule import NOBODY, Plan, plan_of
from lb.service import PROTOCOL_NUMBERS, Destination, Service, ServiceKey
from lb.tcp import REUSABLE, State

_UDP = PROTOCOL_NUMBERS["udp"]
_NEWER_T = 2
"""Within so many ticks two entries were seen at about the same time."""
PROLONGED_T = abi.ticks(abi.PROLONGED_S)
_IDLE_SWEEPS = 2
"""A retired real's row is free when so many sweeps one after the other found no connection of it."""


class Told(NamedTuple):
    """A connection as another director tells it, or a template. state and protocol: any bytes; idle_s: 0 to 65535."""

    key: ConnectionKey
    real: Address
    state: int
    idle_s: int


def apply(maps: Maps, configuration: Configuration) -> None:
    """Make the maps hold these services. Another program starts all turns anew; who has left is retired."""
    maps.families |= configuration.families
    maps.tunnels = maps.tunnels.union(*(service.tunnels for service in configuration.services))
    if (compiled := (configuration.compiled, maps.tunnels)) != maps.compiled:
        maps.compiled = compiled
        maps.allowances = {}
        maps.schedules = [Schedule() for _ in configuration.services]
    named: set[RealKey] = set()
    for service, schedule in zip(configuration.services, maps.schedules, strict=True):
        _place(maps, service)
        members = tuple(RealKey(service.key, destination.address) for destination in _members(service))
        named.update(members)
        _publish(schedule, members, plan_of(service))
    for key, real in maps.reals.items():
        if key not in named:
            real.retired = True
        _set_limits(real)


def restart(maps: Maps, configuration: Configuration) -> None:
    """Another process takes over: it loads a program of its own, and has seen no sweep.

    It knows no connections of a family that has no virtuals any more.
    """
    maps.compiled = None
    left = (real.destination for real in maps.reals.values())
    maps.tunnels = frozenset(real.address.version for real in left if real.tunnelled)
    maps.families = configuration.families
    for key, entry in maps.connections.items():
        if _family(key) not in maps.families:
            add_to(maps.reals[entry.real].load, entry.state, -1)
    maps.connections = {key: entry for key, entry in maps.connections.items() if _family(key) in maps.families}
    for embryo in maps.embryos:
        if _family(embryo.key) not in maps.families:
            add_to(maps.reals[embryo.real].load, embryo.state, -1)
    maps.embryos.forget(6 not in maps.families, 4 not in maps.families)
    _mark(maps)
    maps.denied.clear()
    for real in maps.reals.values():
        real.idle_sweeps = 0
    apply(maps, configuration)


def _members(service: Service) -> Iterator[Destination]:
    yield from service.destinations
    if service.fallback is not None:
        yield service.fallback


def _place(maps: Maps, service: Service) -> None:
    """A fallback that is also a destination is that destination: it comes last, and wins."""
    fallback = [(service.fallback, True)] if service.fallback is not None else []
    for destination, is_fallback in (*fallback, *((destination, False) for destination in service.destinations)):
        real = maps.reals.setdefault(RealKey(service.key, destination.address), Real(destination))
        real.destination, real.fallback = destination, is_fallback
        real.retired, real.idle_sweeps = False, 0


def _publish(schedule: Schedule, members: tuple[RealKey, ...], plan: Plan) -> None:
    """Positions mean something else when others are in the service: what is remembered by them is void."""
    if schedule.members != members:
        schedule.members = members
        schedule.localities.clear()
    schedule.table = tuple(None if position == NOBODY else members[position] for position in plan.table.tolist())
    schedule.candidates = tuple(Candidate(members[c.position], c.weight, c.position) for c in plan.candidates)


def _set_limits(real: Real) -> None:
    """A real with new thresholds is full at its upper one. A lower one of 0 is three quarters of the upper one."""
    load, destination = real.load, real.destination
    upper = 0 if real.retired or real.fallback else destination.upper
    limits = upper, (destination.lower or upper - upper // 4) if upper else 0
    if limits != (load.upper, load.lower):
        load.upper, load.lower = limits
        load.full = False
    mark_full(load)


def renew_lease(maps: Maps, seconds: float, now_ns: int) -> None:
    """From now on for so long; 0 ends it at once."""
    maps.lease.until_ns = now_ns + int(seconds * 1e9) if seconds > 0 else 0


def refer_to(maps: Maps, directors: tuple[bytes, ...], seconds: float, now_ns: int) -> None:
    """For so long ask the first of these MACs about unknown and finished connections; 0 ends it at once."""
    maps.lease.directors = directors
    maps.lease.refer_until_ns = now_ns + int(seconds * 1e9) if seconds > 0 else 0


def is_live(configuration: Configuration, connection: Connection | Embryo, now_t: int) -> bool:
    """Has it not run out?"""
    return now_t - connection.last_seen_t <= configuration.timeout_t(connection)


def sweep(maps: Maps, configuration: Configuration, now_ns: int) -> tuple[int, int, int]:
    """Delete what ran out, free the rows of reals that left. Returns how many live, ran out, are free again."""
    now_t = abi.tick(now_ns)
    live = {key: entry for key, entry in maps.connections.items() if is_live(configuration, entry, now_t)}
    live |= _prolonged(maps, configuration, live, now_t)
    expired = len(maps.connections) - len(live)
    for entry in maps.connections.values():
        if not is_live(configuration, entry, now_t):
            add_to(maps.reals[entry.real].load, entry.state, -1)
    maps.connections = live
    for embryo in maps.embryos:
        if not is_live(configuration, embryo, now_t):
            embryo.gone = True
            add_to(maps.reals[embryo.real].load, embryo.state, -1)
            expired += 1
    _mark(maps)
    young = [embryo.real for embryo in maps.embryos]
    in_use = {*(entry.real for entry in live.values()), *young}
    for key, real in maps.reals.items():
        real.idle_sweeps = real.idle_sweeps + 1 if real.retired and key not in in_use else 0
    free = [key for key, real in maps.reals.items() if real.idle_sweeps >= _IDLE_SWEEPS]
    for key in free:
        del maps.reals[key]
    maps.datagrams = {key: datagram for key, datagram in maps.datagrams.items() if datagram.fate not in free}
    return len(live) + len(young), expired, len(free)


def _prolonged(
    maps: Maps, configuration: Configuration, live: dict[ConnectionKey, Connection], now_t: int
) -> dict[ConnectionKey, Connection]:
    """Templates that ran out, and stay for a minute more because connections of their clients are there (IPVS)."""
    services = {service.key: service for service in configuration.services if service.persistent_s}
    controlled = {
        template_key(services[entry.real.service], key.client)
        for key, entry in live.items()
        if not key.template and entry.real.service in services
    }
    prolonged = {}
    for key, entry in maps.connections.items():
        timeout_t = configuration.timeout_t(entry)
        if key in controlled and key not in live and timeout_t >= 0:
            entry.last_seen_t = now_t + PROLONGED_T - timeout_t
            prolonged[key] = entry
    return prolonged


def install(
    maps: Maps, configuration: Configuration, told: Iterable[Told], now_ns: int, stay: Ours = Ours.LATER
) -> tuple[int, int]:
    """Put in connections that another director knows, each once. Returns how many, and how many of unknown reals.

    What makes no sense, ran out, or is no news here is in neither number.
    """
    now_t, installed, unknown = abi.tick(now_ns), 0, 0
    for key, address, number, idle_s in told:
        if not _is_sane(key, number):
            continue
        state, idle_t = State(number), idle_s * 10**9 >> abi.TICK_SHIFT
        if idle_t > _timeout_t(configuration, key, state):
            continue
        real = _find(maps, configuration, key, address)
        if real is None:
            unknown += 1
            continue
        ours, last_seen_t = maps.connections.get(key) or maps.embryos.find(key), max(0, now_t - idle_t)
        if ours is None or _is_news(Connection(real, state, last_seen_t, now_t), ours, stay):
            if ours is not None:
                add_to(maps.reals[ours.real].load, ours.state, -1)
            if isinstance(ours, Embryo):
                ours.gone = True
            maps.connections[key] = Connection(real, state, last_seen_t, now_t)
            add_to(maps.reals[real].load, state, 1)
            installed += 1
    _mark(maps)
    return installed, unknown


def _is_news(theirs: Connection, ours: Connection | Embryo, stay: Ours) -> bool:
    """Of two entries of one connection. Seen at about the same time, a finished one with another real is of the
    connection that had these ports before."""
    newer_t = theirs.last_seen_t - ours.last_seen_t
    if abs(newer_t) > _NEWER_T or stay is Ours.ALL:
        return newer_t > 0 and stay is not Ours.ALL
    was_before, is_before = theirs.state in REUSABLE, ours.state in REUSABLE
    if theirs.real != ours.real and was_before != is_before:
        return is_before
    return stay is Ours.LATER


def _family(key: ConnectionKey) -> int:
    return 6 if key.is_ipv6 else 4


def _mark(maps: Maps) -> None:
    for real in maps.reals.values():
        mark_full(real.load)


def _timeout_t(configuration: Configuration, key: ConnectionKey, state: State) -> int:
    if state is not State.TEMPLATE:
        return configuration.timeouts_t[state]
    service = ServiceKey(address_of(key.virtual), key.virtual_port, key.protocol)
    return configuration.persistent_t.get(service, -1)


def _is_sane(key: ConnectionKey, state: int) -> bool:
    protocol = key.protocol
    if state == State.TEMPLATE:
        return protocol in (TCP, _UDP) and not key.client_port
    if protocol == TCP:
        return State.NONE < state < State.UDP
    return protocol == _UDP and state == State.UDP


def _find(maps: Maps, configuration: Configuration, key: ConnectionKey, address: Address) -> RealKey | None:
    """The real of the service of exactly this port, else of the one of every port; a group's before one that left."""
    if _family(key) not in maps.families:
        return None
    for port in (key.virtual_port, 0):
        own = ServiceKey(address_of(key.virtual), port, key.protocol)
        for service in (configuration.leaders.get(own, own), own):
            if (real := RealKey(service, address)) in maps.reals:
                return real
    return None
