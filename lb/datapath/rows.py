"""Which row of `reals` belongs to which real of which service. Pure: rows in, rows out; nothing is changed in place.

A connection stores the index of its row, so that an index keeps its meaning as long as a connection has it: a real that
leaves its service is retired, revived if it comes back, and its index is free again when no connection is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from typing import Any

import numpy as np
import numpy.typing as npt

from lb.abi import REALS_MAX, RealFlag, service_codes
from lb.connections import Rows
from lb.errors import DataPathError
from lb.service import LOCAL, Destination, Service, ServiceKey

Array = npt.NDArray[Any]

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
            identity = (service.key, int(destination.address))
            if identity not in known:
                known[identity] = _next(free)
            index = known[identity]
            placement.append(index)
            if flag and index in placement[:-1]:
                continue
            _fill(rows, index, service.key, destination, flag)
        placements.append(tuple(placement))
    return rows, placements


def retire(rows: Array, placements: Iterable[Placement]) -> Array:
    """Rows in which those that no service names any more are retired; they keep their MAC, for their connections."""
    named = np.zeros(len(rows), np.bool_)
    for placement in placements:
        named[list(placement)] = True
    rows = rows.copy()
    gone = (rows["flags"] != 0) & ~named
    rows["flags"][gone] |= np.uint8(RealFlag.RETIRED)
    rows["weight"][gone] = 0
    return rows


def release(rows: Array, indices: Array) -> Array:
    """Rows in which these are free for other reals."""
    rows = rows.copy()
    rows[indices] = np.zeros(1, rows.dtype)
    return rows


def find(rows: Array, connections: Rows) -> Array:
    """The index of each connection's real, -1 where it has no row. As packets do, exact ports go before port 0."""
    used = np.flatnonzero(rows["flags"])
    codes, ordinals = np.unique(_codes(rows[used]), return_inverse=True)
    identities = ordinals.astype(np.uint64) << np.uint64(32) | rows["address"][used]
    order = np.argsort(identities)
    found = np.full(len(connections), -1, np.int64)
    addresses = np.where(connections["real"] == 0, int(LOCAL), connections["real"]).astype(np.uint64)
    for ports in (np.zeros_like(connections["virtual_port"]), connections["virtual_port"]):
        wanted = service_codes(connections["virtual"], ports, connections["protocol"])
        ordinal, is_service = _search(codes, wanted)
        place, is_real = _search(identities[order], ordinal.astype(np.uint64) << np.uint64(32) | addresses)
        hits = is_service & is_real
        found[hits] = used[order[place[hits]]]
    return found


def key_of(row: Any) -> ServiceKey:
    """The service of a row of `reals` or `services`."""
    return ServiceKey(IPv4Address(int(row["virtual"])), int(row["virtual_port"]), int(row["protocol"]))


def _search(sorted_values: Array, wanted: Array) -> tuple[Array, Array]:
    """Where each wanted value stands, and whether it does."""
    if not len(sorted_values):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    places = np.minimum(np.searchsorted(sorted_values, wanted), len(sorted_values) - 1)
    return places, sorted_values[places] == wanted


def _codes(rows: Array) -> Array:
    return service_codes(rows["virtual"], rows["virtual_port"], rows["protocol"])


def _used(rows: Array) -> Iterable[tuple[int, Any]]:
    return ((index, rows[index]) for index in np.flatnonzero(rows["flags"]).tolist())


def _identity(row: Any) -> tuple[ServiceKey, int]:
    return key_of(row), int(row["address"])


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
    mac = tuple(destination.mac or bytes(6))
    rows[index] = (
        int(destination.address), int(key.address), key.port, key.protocol, flags, mac, destination.weight, 0,
    )  # fmt: skip
