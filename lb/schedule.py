"""The schedulers: which real gets the next new connection of a service.

Each is two small functions. One builds the service's table of destinations, here only; the other says which slot of the
table is next, here as the reference and in bpf/sched.h, under the same name, for packets. So the kernel side of a
scheduler is a few instructions, and everything that takes thought happens once per change, in Python.

The rules are IPVS's (SEED_TABLES 5.2), with one difference: a table holds usable destinations only, so that what IPVS
calls sh-fallback and mh-fallback is always on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from lb.service import Destination, Service

Table = npt.NDArray[np.uint32]
"""Positions in a service's tuple of destinations, one a slot. Its length is the modulus; empty: nobody is usable."""

WRR_SLOTS = 65_536
"""The longest turn of wrr. A longer one is scaled down: weight w becomes max(1, w * WRR_SLOTS // sum of weights)."""

SH_BUCKETS = 256
"""IPVS's default, 2^8; bpf/sched.h takes as many bits of the hash."""

MH_SLOTS = 4093
"""IPVS's default, a prime."""

_MH_KEY = b"lbctl maglev"


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A row of SCHEDULERS.

    build: destinations → their table. slot: (cursor, client) → a number whose remainder by the table's length is the
    slot; cursor counts the service's new connections, client is the source address as an integer.
    """

    build: Callable[[Sequence[Destination]], Table]
    slot: Callable[[int, int], int]


def table_of(service: Service) -> tuple[Table, bool]:
    """The table of a service, and whether its fallback is what is in it.

    The fallback's position is len(service.destinations). It is used only while no destination is usable, and then for
    every slot.
    """
    if not any(destination.usable for destination in service.destinations):
        if service.fallback is not None and service.fallback.usable:
            return np.array([len(service.destinations)], np.uint32), True
        return np.empty(0, np.uint32), False
    return SCHEDULERS[service.scheduler].build(service.destinations), False


def rr_table(destinations: Sequence[Destination]) -> Table:
    """Each usable destination once, in order."""
    return np.flatnonzero(_usable(destinations)).astype(np.uint32)


def schedule_rr(cursor: int, client: int) -> int:  # noqa: ARG001
    """Each in turn."""
    return cursor


def wrr_table(destinations: Sequence[Destination]) -> Table:
    """One whole turn of IPVS's sequence: a a b a b c for weights 3, 2, 1.

    IPVS lowers a mark by the weights' greatest common divisor and takes, for each mark, all who weigh as much or more.
    """
    positions = rr_table(destinations)
    weights = np.array([destinations[p].weight for p in positions], np.int64)
    if not len(weights):
        return positions
    weights //= gcd(*weights.tolist())
    if weights.sum() > WRR_SLOTS:
        weights = np.maximum(1, weights * WRR_SLOTS // weights.sum())
    who = np.repeat(np.arange(len(positions)), weights)
    mark = np.concatenate([np.arange(weight, 0, -1) for weight in weights])
    order = np.lexsort((who, -mark))
    return positions[who[order]]


def schedule_wrr(cursor: int, client: int) -> int:  # noqa: ARG001
    """Each in turn; the weights are in the table."""
    return cursor


def sh_table(destinations: Sequence[Destination]) -> Table:
    """256 buckets filled in turn, each destination as often as its share says, at least once a turn.

    A bucket whose owner is unusable is given to the first usable owner that IPVS's rehash would come to: it starts
    `bucket` further on and takes one bucket after the other.
    """
    shares = [max(1, _share(destination)) for destination in destinations]
    owners = np.resize(np.repeat(np.arange(len(shares), dtype=np.uint32), shares), SH_BUCKETS)
    buckets = np.arange(SH_BUCKETS)
    return _hand_over(owners, _usable(destinations), 2 * buckets % SH_BUCKETS)


def schedule_sh(cursor: int, client: int) -> int:  # noqa: ARG001
    """IPVS's hash of the source address: the upper 8 bits of a multiplication by 2^32 / phi."""
    return (client * 0x61C88647 & 0xFFFFFFFF) >> 24


def mh_table(destinations: Sequence[Destination]) -> Table:
    """Maglev's table of 4093 slots by the shares; an unusable owner's slot goes to the next usable one's owner."""
    addresses = tuple(destination.address.packed for destination in destinations)
    owners = maglev(addresses, _turns([_share(destination) for destination in destinations]))
    return _hand_over(owners, _usable(destinations), (np.arange(len(owners)) + 1) % max(1, len(owners)))


def schedule_mh(cursor: int, client: int) -> int:  # noqa: ARG001
    """MurmurHash3's finalizer: every bit of the client's address decides over every bit."""
    value = client
    value ^= value >> 16
    value = value * 0x85EBCA6B & 0xFFFFFFFF
    value ^= value >> 13
    value = value * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


SCHEDULERS: dict[str, Scheduler] = {
    "rr": Scheduler(rr_table, schedule_rr),
    "wrr": Scheduler(wrr_table, schedule_wrr),
    "sh": Scheduler(sh_table, schedule_sh),
    "mh": Scheduler(mh_table, schedule_mh),
}


@lru_cache(maxsize=256)
def maglev(names: tuple[bytes, ...], turns: tuple[int, ...]) -> Table:
    """Who owns each of MH_SLOTS slots; kept, because health changes neither names nor turns.

    Each name has a permutation of the slots, (offset + i * skip) mod M, from keyed hashes that are equal on every node
    and in every run. In rounds, each takes as many free slots as it has turns, in the order of its permutation.
    Source: Eisenbud et al., "Maglev" (NSDI 2016) section 3.4; the turns are IPVS's.
    """
    if not any(turns):
        return np.empty(0, np.uint32)
    hashes = [hashlib.blake2b(name, key=_MH_KEY, digest_size=16).digest() for name in names]
    at = [int.from_bytes(digest[:8], "little") % MH_SLOTS for digest in hashes]
    skips = [int.from_bytes(digest[8:], "little") % (MH_SLOTS - 1) + 1 for digest in hashes]
    owner = [-1] * MH_SLOTS
    free = MH_SLOTS
    while True:
        for name, times in enumerate(turns):
            slot, skip = at[name], skips[name]
            for _ in range(times):
                while owner[slot] >= 0:
                    slot = (slot + skip) % MH_SLOTS
                owner[slot] = name
                free -= 1
                if not free:
                    table = np.array(owner, np.uint32)
                    table.flags.writeable = False
                    return table
            at[name] = slot


def _turns(shares: Sequence[int]) -> tuple[int, ...]:
    """Turns a round: the shares by their common divisor, at least 1 where not 0, halved until a round fits the table.

    IPVS stops halving when the largest alone fits; then a real of weight 1 beside one of 65,535 has no slot at all.
    """
    divisor = gcd(*shares) or 1
    turns = [share // divisor for share in shares]
    while sum(turns) > max(MH_SLOTS, len(turns)):
        turns = [max(1, number // 2) if number else 0 for number in turns]
    return tuple(turns)


def _share(destination: Destination) -> int:
    return max(1, destination.weight) if destination.share is None else destination.share


def _usable(destinations: Sequence[Destination]) -> npt.NDArray[np.bool_]:
    return np.fromiter((destination.usable for destination in destinations), np.bool_, len(destinations))


def _hand_over(owners: Table, usable: npt.NDArray[np.bool_], start: npt.NDArray[Any]) -> Table:
    """Replace unusable owners: slot i gets the first usable owner at or after slot start[i], round and round."""
    if not len(owners):
        return owners
    well = np.flatnonzero(usable[owners])
    if not len(well):
        return np.empty(0, np.uint32)
    heirs = owners[well[np.searchsorted(well, start) % len(well)]]
    return np.where(usable[owners], owners, heirs).astype(np.uint32)
