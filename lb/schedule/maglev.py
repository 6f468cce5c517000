"""Weighted Maglev hashing: who owns each slot of a table, so that few slots change hands when reals come and go.

Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4: each
real takes the next free slot of its own permutation when its turn comes, and weights are how often turns come. Two
things are ours to say. How often: turn k of weight w is due at (k + 1/2) / w, so that the order of any two reals
depends on their own weights only, whoever else comes or goes. How many: exactly its share by largest remainders
(Hamilton's method; Balinski and Young, "Fair Representation", 1982), so that rounding costs nobody a whole slot; a real
of weight 1 beside one of 65,535 has one all the same.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

MH_SLOTS = 4093
"""IPVS's default, a prime."""

_KEY = b"lbctl maglev"


@lru_cache(maxsize=256)
def maglev(names: tuple[bytes, ...], weights: tuple[int, ...]) -> npt.NDArray[np.uint32]:
    """The owner of each of MH_SLOTS slots, as a position in `names`; empty when no weight is above 0.

    The permutations, (offset + i * skip) mod MH_SLOTS, come of keyed hashes that are equal on every node and in every
    run. Kept, because health changes neither names nor weights. Read-only.
    """
    counts = quotas(weights)
    if not counts.sum():
        return np.empty(0, np.uint32)
    hashes = [hashlib.blake2b(name, key=_KEY, digest_size=16).digest() for name in names]
    at = [int.from_bytes(digest[:8], "little") % MH_SLOTS for digest in hashes]
    skips = [int.from_bytes(digest[8:], "little") % (MH_SLOTS - 1) + 1 for digest in hashes]
    owner = [-1] * MH_SLOTS
    for name in _turns(weights, counts):
        slot, skip = at[name], skips[name]
        while owner[slot] >= 0:
            slot = (slot + skip) % MH_SLOTS
        owner[slot] = name
        at[name] = slot
    table = np.array(owner, np.uint32)
    table.flags.writeable = False
    return table


def quotas(weights: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """How many slots each weight gets: its exact share rounded up or down, at least one while there are enough."""
    weight = np.array(weights, np.int64)
    if not weight.sum():
        return np.zeros(len(weight), np.int64)
    exact = MH_SLOTS * weight
    counts: npt.NDArray[np.int64] = np.maximum(exact // weight.sum(), weight > 0)
    while missing := MH_SLOTS - int(counts.sum()):
        owed = exact - counts * weight.sum()
        if missing > 0:
            counts[np.argsort(-owed, kind="stable")[:missing]] += 1
        else:
            order = np.argsort(owed, kind="stable")
            counts[order[counts[order] > int(len(weight) < MH_SLOTS)][:-missing]] -= 1
    return counts


def _turns(weights: tuple[int, ...], counts: npt.NDArray[np.int64]) -> list[int]:
    """Who is next, MH_SLOTS times; the earlier in the list where two are due at once."""
    who = np.repeat(np.arange(len(counts)), counts)
    turn = np.arange(len(who)) - np.repeat(np.cumsum(counts) - counts, counts)
    due = (turn + 0.5) / np.array(weights)[who]
    order: list[int] = who[np.lexsort((who, due))].tolist()
    return order
