"""Which row of `reals` belongs to which real of which service. Pure: rows in, rows out; nothing is changed in place.

A connection stores the index of its row, so that an index keeps its meaning as long as a connection has it: a real that
leaves its service is retired, revived if it comes back, and its index is free again when no connection is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lb.abi import REALS_MAX, RealFlag, address_of, are_mapped, service_codes, words
from lb.addresses import Address
from lb.connections import Rows
from lb.datapath.places import by_leader, has_groups
from lb.errors import DataPathError
from lb.service import LOCAL, LOCAL6, Destination, Service, ServiceKey

Array = npt.NDArray[Any]

_LOW32 = 0xFFFF_FFFF

Placement = tuple[int, ...]
"""The indices of a service's destinations in order, then that of its fallback if it has one."""


def place(rows: Array, services: Sequence[Service]) -> tuple[Array, list[Placement]]:
    """Rows in which every destination of the services has one, and where. Nothing is retired.

    A fallback that is also a destination has that destination's row. Raises DataPathError when all rows are taken.
    """
    rows = rows.copy()
    known = {_identity(row): index for index, row in _used(rows)}
    free = iter(np.flatnonzero(rows["flags"] == 0).tolist())
    placements = []
    for service in services:
        placement = []
        for destination, flag in _members(service):
            identity = (service.key, destination.address)
            if identity not in known:
                known[identity] = _next(free)
            index = known[identity]
            placement.append(index)
            if flag and index in placement[:-1]:
                continue
            _fill(rows, index, service.key, destination, flag)
        placements.append(tuple(placement))
    return rows, placements


def place_ways(ways: Array, services: Sequence[Service], placements: Sequence[Placement]) -> Array:
    """The rows of `ways` in which every destination has its own. What a real that left has stays."""
    ways, none = ways.copy(), np.zeros((), ways.dtype)
    for service, placement in zip(services, placements, strict=True):
        # A fallback that is also a destination comes last and must not win.
        for (destination, _), index in reversed(list(zip(_members(service), placement, strict=True))):
            if (way := destination.way) is not None:
                ways[index] = (words(way.source), way.interface, tuple(way.own_mac), way.mtu, 0)
            elif destination.mac is not None:
                ways[index] = none
    return ways


def retire(rows: Array, placements: Iterable[Placement]) -> Array:
    """Rows in which those that no service names any more are retired; they keep their MAC, for their connections."""
    named = np.zeros(len(rows), np.bool_)
    for placement in placements:
        named[list(placement)] = True
    rows = rows.copy()
    gone = (rows["flags"] != 0) & ~named
    rows["flags"][gone] |= np.uint8(RealFlag.RETIRED)
    rows["flags"][gone] &= np.uint8(0xFF & ~RealFlag.GONE)
    rows["weight"][gone] = 0
    return rows


def release(rows: Array, indices: Array) -> Array:
    """Rows in which these are free for other reals."""
    rows = rows.copy()
    rows[indices] = np.zeros(1, rows.dtype)
    return rows


class Finder:
    """Which of these rows of `reals` connections have that are told in one kind of row; made once for many of them.

    services: all rows of that map. A real of the group that a port is in goes before one from when the port was alone.
    is_ipv6: in rows with room for IPv6, which may be of any family, or be between two.
    """

    def __init__(self, rows: Array, services: Array, is_ipv6: bool) -> None:
        self._groups = services if has_groups(services) else None
        here = rows["flags"] != 0
        if not is_ipv6:
            here &= are_mapped(rows["virtual"]) & are_mapped(rows["address"])
        self._used = np.flatnonzero(here)
        used = rows[self._used]
        self._addresses = _Addresses6(used) if is_ipv6 else _Addresses4()
        virtuals, reals = (self._addresses.numbers(used[name]) for name in ("virtual", "address"))
        services, ordinals = np.unique(
            service_codes(virtuals, used["virtual_port"], used["protocol"]), return_inverse=True
        )
        identities = _paired(ordinals, reals)
        self._services, self._order = services, np.argsort(identities)
        self._identities = identities[self._order]

    def find(self, connections: Rows) -> Array:
        """The index of each connection's real, -1 where it has no row. As packets do, exact ports go before port 0."""
        reals = self._addresses.numbers(self._addresses.with_local(connections["real"]))
        found = np.full(len(connections), -1, np.int64)
        for named, virtuals in self._names(connections):
            codes = service_codes(virtuals, named["virtual_port"], named["protocol"])
            ordinals, is_service = _search(self._services, codes)
            places, is_real = _search(self._identities, _paired(ordinals, reals))
            hits = is_service & is_real
            found[hits] = self._used[self._order[places[hits]]]
        return found

    def _names(self, connections: Rows) -> Iterator[tuple[Rows, Array]]:
        """By what services they may be known, with their addresses' numbers; what goes before all others is last."""
        every_port, virtuals = connections.copy(), self._addresses.numbers(connections["virtual"])
        every_port["virtual_port"] = 0
        for named in (every_port, connections):
            yield named, virtuals
            if self._groups is not None:
                led = by_leader(self._groups, named)
                yield led, self._addresses.numbers(led["virtual"])


class _Addresses4:
    """Addresses as numbers of 32 bits, whichever way they are held."""

    def numbers(self, addresses: Array) -> Array:
        low = addresses if addresses.ndim == 1 else addresses[:, 1] & np.uint64(_LOW32)
        return low.astype(np.uint64)

    def with_local(self, reals: Array) -> Array:
        return np.where(reals == 0, np.uint32(int(LOCAL)), reals)


class _Addresses6:
    """Of IPv6, or mapped: an address's place among those of the rows; _LOW32 if it is none of them."""

    def __init__(self, rows: Array) -> None:
        known = np.unique(np.concatenate([rows["virtual"], rows["address"]]).astype(np.uint64), axis=0)
        self._highs, ordinals = np.unique(known[:, 0], return_inverse=True)
        self._lows = np.unique(known[:, 1])
        self._codes = _paired(ordinals, np.searchsorted(self._lows, known[:, 1]).astype(np.uint64))

    def numbers(self, addresses: Array) -> Array:
        high, is_high = _search(self._highs, addresses[:, 0].astype(np.uint64))
        low, is_low = _search(self._lows, addresses[:, 1].astype(np.uint64))
        place, is_known = _search(self._codes, _paired(high, low.astype(np.uint64)))
        return np.where(is_high & is_low & is_known, place, _LOW32).astype(np.uint64)

    def with_local(self, reals: Array) -> Array:
        reals = reals.copy()
        reals[(reals == 0).all(axis=1)] = words(LOCAL6)
        return reals


def _paired(highs: Array, lows: Array) -> Array:
    """One sortable number of two that have 32 bits at most."""
    return highs.astype(np.uint64) << np.uint64(32) | lows


def key_of(row: Any) -> ServiceKey:
    """The service of a row of `reals` or `services`."""
    return ServiceKey(address_of(row["virtual"]), int(row["virtual_port"]), int(row["protocol"]))


def _search(sorted_values: Array, wanted: Array) -> tuple[Array, Array]:
    """Where each wanted value stands, and whether it does."""
    if not len(sorted_values):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    places = np.minimum(np.searchsorted(sorted_values, wanted), len(sorted_values) - 1)
    return places, sorted_values[places] == wanted


def _used(rows: Array) -> Iterable[tuple[int, Any]]:
    return ((index, rows[index]) for index in np.flatnonzero(rows["flags"]).tolist())


def _identity(row: Any) -> tuple[ServiceKey, Address]:
    return key_of(row), address_of(row["address"])


def _members(service: Service) -> Iterable[tuple[Destination, RealFlag]]:
    yield from ((destination, RealFlag(0)) for destination in service.destinations)
    if service.fallback is not None:
        yield service.fallback, RealFlag.FALLBACK


def _next(free: Iterable[int]) -> int:
    try:
        return next(iter(free))
    except StopIteration:
        raise DataPathError(
            f"more than {REALS_MAX} reals, counting those that left and still have connections; use fewer, or wait"
        ) from None


def _fill(rows: Array, index: int, key: ServiceKey, destination: Destination, flag: RealFlag) -> None:
    flags = RealFlag.USED | flag
    if destination.local:
        flags |= RealFlag.LOCAL
    if destination.mac is not None:
        flags |= RealFlag.RESOLVED
    if destination.tunnelled:
        flags |= RealFlag.TUNNEL
    if destination.gone:
        flags |= RealFlag.GONE
    rows[index] = (
        tuple(destination.mac or bytes(6)), destination.weight, flags, key.protocol, key.port, 0,
        words(destination.address), words(key.address),
    )  # fmt: skip
