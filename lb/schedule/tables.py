"""The tables of those schedulers that need no counts: they are built once per change, and a packet only picks a slot.

Each builder takes the destinations and whether a place whose owner is unusable goes to another one (the flags
sh-fallback and mh-fallback); without that the place is NOBODY's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from lb.schedule.maglev import MH_SLOTS, maglev
from lb.service import Destination

Table = npt.NDArray[np.uint32]
"""Positions in a service's tuple of destinations, one a slot, or NOBODY. Its length is the modulus."""

NOBODY = 0xFFFF_FFFF
"""A slot whose clients are refused; also bpf/sched.h's."""

WRR_SLOTS = 65_536
"""The longest turn of wrr. A longer one is scaled down: weight w becomes max(1, w * WRR_SLOTS // sum of weights)."""

BUCKETS = 256
"""Of sh and dh: IPVS's default, 2^8; bpf/sched.h takes as many bits of the hash."""


def rr_table(destinations: Sequence[Destination], fallback: bool = True) -> Table:  # noqa: ARG001
    """Each usable destination once, in order."""
    return np.flatnonzero(usable(destinations)).astype(np.uint32)


def wrr_table(destinations: Sequence[Destination], fallback: bool = True) -> Table:  # noqa: ARG001
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


def dh_table(destinations: Sequence[Destination], fallback: bool = True) -> Table:  # noqa: ARG001
    """256 buckets filled in turn whatever the weights. IPVS's dh never falls back."""
    return _filled(np.resize(np.arange(len(destinations), dtype=np.uint32), BUCKETS), destinations, None)


def sh_table(destinations: Sequence[Destination], fallback: bool = True) -> Table:
    """256 buckets filled in turn, each destination as often as its share says, at least once a turn.

    A bucket whose owner is unusable falls to the first usable owner that IPVS's rehash would come to.
    """
    shares = [max(1, _share(destination)) for destination in destinations]
    owners = np.resize(np.repeat(np.arange(len(shares), dtype=np.uint32), shares), BUCKETS)
    return _filled(owners, destinations, sh_next(np.arange(BUCKETS), BUCKETS) if fallback else None)


def sh_next(bucket: Any, count: int) -> Any:
    """Where IPVS's rehash begins to look for another owner, one bucket after the other: `bucket` further on."""
    return 2 * bucket % count


def mh_table(destinations: Sequence[Destination], fallback: bool = True) -> Table:
    """Maglev's table by the shares; an unusable owner's slot falls to the next usable one's owner."""
    addresses = tuple(destination.address.packed for destination in destinations)
    owners = maglev(addresses, tuple(map(_share, destinations)))
    return _filled(owners, destinations, mh_next(np.arange(MH_SLOTS), MH_SLOTS) if fallback else None)


def mh_next(slot: Any, count: int) -> Any:
    """Where the search for another owner begins: the slot after."""
    return (slot + 1) % count


def no_table(destinations: Sequence[Destination], fallback: bool = True) -> Table:  # noqa: ARG001
    """Of a scheduler that looks at every destination."""
    return np.empty(0, np.uint32)


def usable(destinations: Sequence[Destination]) -> npt.NDArray[np.bool_]:
    """Which may be given a new connection."""
    return np.fromiter((destination.usable for destination in destinations), np.bool_, len(destinations))


def _share(destination: Destination) -> int:
    return max(1, destination.weight) if destination.share is None else destination.share


def _filled(owners: Table, destinations: Sequence[Destination], start: npt.NDArray[Any] | None) -> Table:
    """Replace unusable owners: slot i gets the first usable owner at or after slot start[i], round and round."""
    if not len(owners):
        return owners
    fit = usable(destinations)[owners]
    well = np.flatnonzero(fit)
    if not len(well):
        return np.empty(0, np.uint32)
    heirs = NOBODY if start is None else owners[well[np.searchsorted(well, start) % len(well)]]
    return np.where(fit, owners, heirs).astype(np.uint32)
