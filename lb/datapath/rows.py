"""Which row of `reals` belongs to which real of which service. Pure: rows in, rows out; nothing is changed in place.

A connection stores the index of its row, so that an index keeps its meaning as long as a connection has it: a real that
leaves its service is retired, revived if it comes back, and its index is free again when no connection is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lb.abi import REALS_MAX, RealFlag, address_of, service_codes, words
from lb.addresses import Address
from lb.connections import CONNECTION6, Rows
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


def find(rows: Array, connections: Rows) -> Array:
    """The index of each connection's real, -1 where it has no row. As packets do, exact ports go before port 0."""
    is_ipv6 = connections.dtype == CONNECTION6
    used = np.flatnonzero((rows["flags"] != 0) & (_is_ipv6(rows["virtual"]) == is_ipv6))
    virtuals, reals, wanted_virtuals, wanted_reals = (_numbers6 if is_ipv6 else _numbers4)(rows[used], connections)
    codes, ordinals = np.unique(
        service_codes(virtuals, rows["virtual_port"][used], rows["protocol"][used]), return_inverse=True
    )
    identities = ordinals.astype(np.uint64) << np.uint64(32) | reals
    order = np.argsort(identities)
    found = np.full(len(connections), -1, np.int64)
    for ports in (np.zeros_like(connections["virtual_port"]), connections["virtual_port"]):
        wanted = service_codes(wanted_virtuals, ports, connections["protocol"])
        ordinal, is_service = _search(codes, wanted)
        place, is_real = _search(identities[order], ordinal.astype(np.uint64) << np.uint64(32) | wanted_reals)
        hits = is_service & is_real
        found[hits] = used[order[place[hits]]]
    return found


def _is_ipv6(addresses: Array) -> Array:
    """Which of these words are no IPv4 addresses?"""
    mapped: Array = (addresses[:, 0] != 0) | (addresses[:, 1] >> np.uint64(32) != words(LOCAL)[1] >> 32)
    return mapped


def _numbers4(rows: Array, connections: Rows) -> tuple[Array, Array, Array, Array]:
    """Virtuals and reals of the rows, then of the connections: each address as a number of 32 bits."""
    low = [(rows[name][:, 1] & np.uint64(_LOW32)).astype(np.uint64) for name in ("virtual", "address")]
    reals = np.where(connections["real"] == 0, int(LOCAL), connections["real"]).astype(np.uint64)
    return low[0], low[1], connections["virtual"], reals


def _numbers6(rows: Array, connections: Rows) -> tuple[Array, Array, Array, Array]:
    """The same for IPv6: the address's place among those of the rows; _LOW32 if it is none of them."""
    known = np.unique(np.concatenate([rows["virtual"], rows["address"]]).astype(np.uint64), axis=0)
    highs, ordinals = np.unique(known[:, 0], return_inverse=True)
    lows = np.unique(known[:, 1])
    codes = ordinals.astype(np.uint64) << np.uint64(32) | np.searchsorted(lows, known[:, 1]).astype(np.uint64)

    def number(addresses: Array) -> Array:
        high, is_high = _search(highs, addresses[:, 0].astype(np.uint64))
        low, is_low = _search(lows, addresses[:, 1].astype(np.uint64))
        place, is_known = _search(codes, high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64))
        return np.where(is_high & is_low & is_known, place, _LOW32).astype(np.uint64)

    reals = connections["real"].copy()
    reals[(reals == 0).all(axis=1)] = words(LOCAL6)
    return number(rows["virtual"]), number(rows["address"]), number(connections["virtual"]), number(reals)


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
