"""What Python and the packet program agree on: layouts come from C (bpf/abi.h), constants go to it.

The only place that converts between C layouts, byte order and the model. Pure: numpy in, numpy out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from enum import IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import numpy.typing as npt

from lb import tcp
from lb.addresses import Address
from lb.connections import CONNECTION, CONNECTION6, Rows
from lb.model import Connections
from lb.service import LOCAL, LOCAL6
from lb.tcp import State

Array = npt.NDArray[Any]
Layout = Mapping[str, Any] | str
"""A C type as the compiler describes it: "u8" ... "u64", "i8" ... "i64", or
{"size": bytes, "fields": [[name, type, offset, count]]}; count is 0 for a single value."""

TICK_SHIFT = 30
"""Nanoseconds of CLOCK_MONOTONIC >> 30 are ticks of 1.07 s: the packet program's second, for the price of a shift."""

MOMENT_SHIFT = 20
"""Of half-open connections ages are compared in moments of 1.05 ms: a flood gives thousands of them the same tick."""

SYNC_REFRESH_S = 60.0
"""How long a touched connection goes untold to user space."""

PROLONGED_S = 60.0
"""How much longer a template lasts that ran out while connections of its client are there; IPVS's."""

REALS_MAX = 16_384
SERVICES_MAX = 1_024
SLOTS_MAX = 1_048_576
LOCALITIES_MAX = 16_384
EVENTS_BYTES = 4_194_304
"""Sizes of the maps; that of lblc and lblcr is IPVS's. The ring must be a power of two; 4 MB hold 87,000 events, some
seconds of new connections."""


EPOCHS = 1_024
EPOCH_STEP = 1 << 16
"""What user space adds to an epoch; packets add 1 each."""

DENY_LISTS_MAX = 64
CLIENTS_MAX = 65_536
"""Deny lists with a counter each; clients whose rate is known at a time."""

DATAGRAMS_MAX = 65_536
"""That come in fragments, in FRAGMENT_TIMEOUT_S. 8 MB."""
FRAGMENT_TIMEOUT_S = 3.0
"""How long the fragments of a datagram find each other. Paths differ by less, and a busy client begins its numbers anew
in as little."""
EARLY_BYTES = 2_000
"""The longest frame that is set aside; 48 bytes beside it make 2 KB."""
EARLIES_BYTES = 1_048_576
"""Of the ring in which frames are set aside: 510 of them."""
EARLY_A_TICK = 500
DATAGRAM_WAITS, DATAGRAM_PASSED, DATAGRAM_DROPPED = 0xFFFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFD
"""In the place of a real's index: what became of a datagram's first fragment, which has not come in the first case."""

CACHE_SETS_MAX = 131_072
CACHE_SET_BYTES = 64
CACHE_WAYS = 2

EMBRYO_WAYS = 4
EMBRYO_SEED_BYTES = 80
"""Half-open connections are in sets of so many; a word of the seed for each half of a word of IPv6's key."""

CHECK_FACTORS = (
    0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
    0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63, 0xFF51AFD7ED558CCD,
)  # fmt: skip
"""By which the words of a half-open connection are multiplied. The sum's upper half says that they belong together."""

_LOW32, _LOW64 = (1 << 32) - 1, (1 << 64) - 1
_MAPPED = 0xFFFF
"""What stands before an IPv4 address in an IPv6 address of the same meaning. RFC 4291 section 2.5.5.2."""


ANSWERS_A_TICK = 1_000
"""ICMP errors that a CPU sends in a tick at most."""


class RealFlag(IntFlag):
    """`flags` of struct real."""

    USED = 1
    LOCAL = 2
    RESOLVED = 4
    RETIRED = 8
    FALLBACK = 16
    TUNNEL = 32
    GONE = 64


class ServiceFlag(IntFlag):
    """`flags` of struct service."""

    USED = 1
    FALLBACK_ACTIVE = 2
    HASH_FALLBACK = 4
    HASH_PORT = 8
    ONE_PACKET = 16
    MEMBER = 32


FLAG_SUFFIXES = {ServiceFlag.HASH_FALLBACK: "fallback", ServiceFlag.HASH_PORT: "port"}


def service_flags(scheduler: str, flags: Collection[str]) -> ServiceFlag:
    """A scheduler's flags as bits."""
    bits = [bit for bit, suffix in FLAG_SUFFIXES.items() if f"{scheduler}-{suffix}" in flags]
    return ServiceFlag(sum(bits))


def scheduler_flags(scheduler: str, bits: int) -> tuple[str, ...]:
    """And back, in ipvsadm's order."""
    return tuple(f"{scheduler}-{suffix}" for bit, suffix in FLAG_SUFFIXES.items() if bits & bit)


def ticks(seconds: float) -> int:
    """The smallest number of ticks that lasts at least so long."""
    return math.ceil(seconds * 1e9 / (1 << TICK_SHIFT))


def ticks_of(seconds: Array) -> Array:
    """`ticks`, rounded down, of whole seconds."""
    return seconds.astype(np.int64) * 1_000_000_000 >> TICK_SHIFT


def seconds(ticks: Array) -> Array:
    """Whole seconds that so many ticks last."""
    return ticks.astype(np.int64) * (1 << TICK_SHIFT) // 1_000_000_000


def tick(now_ns: int) -> int:
    """The tick of a time of CLOCK_MONOTONIC."""
    return now_ns >> TICK_SHIFT


def cache_set_bits(connections: int, cpus: int) -> int:
    """Log2 of the sets that each CPU's cache has: two lines for each connection if they are spread evenly, as network
    cards do it, and at most CACHE_SETS_MAX sets, 8 MB."""
    sets = min(connections * 2 // (cpus * CACHE_WAYS), CACHE_SETS_MAX)
    return max(sets - 1, 1).bit_length()


def embryo_set_bits(connections: int) -> int:
    """Log2 of the sets of half-open connections in a table: room for at least as many as are remembered at most."""
    return max(-(-connections // EMBRYO_WAYS) - 1, 1).bit_length()


def embryo_seed(seed: bytes) -> tuple[int, ...]:
    """The words of EMBRYO_SEED_BYTES, by which half-open connections are spread over their sets."""
    return tuple(int.from_bytes(seed[at : at + 8], "little") for at in range(0, EMBRYO_SEED_BYTES, 8))


def timeouts_s(settings: Connections) -> dict[State, float]:
    """Seconds by state: IPVS's defaults with the three that can be set, as `ipvsadm --set tcp tcpfin udp`."""
    return tcp.TIMEOUTS_S | {
        State.ESTABLISHED: settings.established,
        State.FIN_WAIT: settings.fin,
        State.UDP: settings.udp,
    }


def dtype(layout: Layout, wire: Collection[str]) -> np.dtype[Any]:
    """The numpy type of a C type. wire: the names of fields in wire order."""
    if isinstance(layout, str):
        return np.dtype(f"{layout[0]}{int(layout[1:]) // 8}")
    names, formats, offsets = [], [], []
    for name, inner, offset, count in layout["fields"]:
        base = dtype(inner, wire)
        formats.append((base.newbyteorder(">") if name in wire else base, (count,) if count else ()))
        names.append(name)
        offsets.append(offset)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": layout["size"]})


def words(address: Address) -> tuple[int, int]:
    """An address as rows of `reals` and `services` hold it: its high and its low 64 bits, IPv4's mapped into IPv6."""
    number = int(address) if address.version == 6 else _MAPPED << 32 | int(address)
    return number >> 64, number & _LOW64


def address_of(pair: Sequence[int] | Array) -> Address:
    """The inverse of `words`."""
    high, low = int(pair[0]), int(pair[1])
    if high == 0 and low >> 32 == _MAPPED:
        return IPv4Address(low & _LOW32)
    return IPv6Address(high << 64 | low)


def connection_rows(keys: Array, values: Array, reals: Array, now_t: int) -> tuple[Rows, ...]:
    """Rows of the exchange format from entries of a connection table, or from keys and values of the ring's records.

    reals: all rows of that map. One array a kind; of IPv4's table a second one has those whose real is IPv6, if any.
    """
    addresses = reals["address"][values["real"] % len(reals)].astype(np.uint64)
    if keys["client"].ndim > 1:
        return (_rows(CONNECTION6, keys, values, addresses, now_t),)
    new = ~are_mapped(addresses) & addresses.any(axis=1)
    if not new.any():
        return (_rows(CONNECTION, keys, values, addresses, now_t),)
    kinds = (CONNECTION, ~new), (CONNECTION6, new)
    return tuple(_rows(kind, keys[which], values[which], addresses[which], now_t) for kind, which in kinds)


def _rows(kind: np.dtype[Any], keys: Array, values: Array, reals: Array, now_t: int) -> Rows:
    rows = np.empty(len(keys), kind)
    for name in ("client_port", "virtual_port", "protocol"):
        rows[name] = keys[name]
    for name in ("client", "virtual"):
        rows[name] = mapped(keys[name]) if kind == CONNECTION6 else keys[name]
    if kind == CONNECTION6:
        reals[(reals == words(LOCAL6)).all(axis=1)] = 0
        rows["real"] = reals
    else:
        numbers = reals[:, 1] & _LOW32
        rows["real"] = np.where(numbers == int(LOCAL), 0, numbers)
    rows["state"] = values["state"]
    rows["idle_s"] = np.minimum(seconds(age_t(values["last_seen_t"], now_t)), 65_535)
    return rows


def mapped(addresses: Array) -> Array:
    """Addresses as two words each, IPv4's mapped, whichever way they are held."""
    if addresses.ndim > 1:
        return addresses.astype(np.uint64)
    low = np.uint64(_MAPPED << 32) | addresses.astype(np.uint64)
    return np.column_stack([np.zeros(len(addresses), np.uint64), low])


def are_mapped(addresses: Array) -> Array:
    """Which of these words are IPv4 addresses."""
    which: Array = (addresses[:, 0] == 0) & (addresses[:, 1] >> np.uint64(32) == _MAPPED)
    return which


def age_t(last_seen_t: Array, now_t: int) -> Array:
    """Ticks since then; 0 for what is in the future, another reader of the clock having been late."""
    return np.maximum(now_t - last_seen_t.astype(np.int64), 0)


def early_frames(earlies: Array) -> list[tuple[bytes, bytes]]:
    """Datagram (its key's bytes) and frame of records of the ring of those set aside."""
    return [(row["datagram"].tobytes(), row["words"].tobytes()[: int(row["length"])]) for row in earlies]


def service_codes(addresses: Array, ports: Array, protocols: Array) -> Array:
    """One sortable number for each (address, port, protocol). addresses: as 32 bits."""
    return (addresses.astype(np.uint64) << np.uint64(24)) | (ports.astype(np.uint64) << np.uint64(8)) | protocols
