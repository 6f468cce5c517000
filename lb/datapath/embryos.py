"""Half-open connections (bpf/embryo.h) as arrays: a table of them is shared with the kernel, and read without a call.

What is read is torn where a packet is just being written there: an entry whose check is not that of its words is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lb import abi
from lb.abi import Array
from lb.bpf import Map

_BATCH = 65_536
"""Entries that are looked at at once: 2 MB, of IPv6 4."""


class Batch(NamedTuple):
    """Entries of one table. places: where they are; entries: copies of them."""

    places: Array
    entries: Array


class Embryos:
    """One family's. Shares the map's memory."""

    def __init__(self, opened: Map) -> None:
        self._entries = opened.mapped()["ways"].reshape(-1)
        words: Array = self._entries.view(np.uint64).reshape(-1, abi.EMBRYO_WAYS, self._entries.itemsize // 8)
        self._marks = words[:, :, self._entries.dtype["key"].itemsize // 8 + 1]
        """Check and gone as one word, by set and way."""

    def batches(self) -> Iterator[Batch]:
        """All that are there."""
        for start in range(0, len(self._entries), _BATCH):
            part = self._entries[start : start + _BATCH]
            places = np.flatnonzero(part["check"] != part["gone"])
            if len(places):
                taken = part[places]
                whole = checks_of(taken) == taken["check"]
                yield Batch(start + places[whole], taken[whole])

    def find(self, keys: Array, seed: tuple[int, ...]) -> tuple[Array, Batch]:
        """Which of these keys have one, and theirs, in that order. seed: `lb.abi.embryo_seed`, that of the program."""
        sets = set_of(keys, seed, (len(self._entries) // abi.EMBRYO_WAYS).bit_length() - 1)
        which = self._are_taken(sets)
        keys, sets = keys[which], sets[which]
        places = sets[:, None] * abi.EMBRYO_WAYS + np.arange(abi.EMBRYO_WAYS)
        entries = self._entries[places]
        there = (entries["key"] == keys[:, None]) & (entries["check"] != entries["gone"])
        there &= checks_of(entries.reshape(-1)).reshape(there.shape) == entries["check"]
        found, ways = there.any(axis=1), there.argmax(axis=1)
        which[which] = found
        at = np.flatnonzero(found), ways[found]
        return which, Batch(places[at], entries[at])

    def _are_taken(self, sets: Array) -> Array:
        """Which of these sets have any entry, be it of one piece or not. Few do where few connections are half-open."""
        marks = self._marks[sets]
        taken: Array = ((marks >> np.uint64(32)) != (marks & np.uint64(0xFFFF_FFFF))).any(axis=1)
        return taken

    def let_go(self, batch: Batch, which: Array) -> None:
        """These of a batch are not there any more. Who came into their place meanwhile stays."""
        self._entries["gone"][batch.places[which]] = batch.entries["check"][which]

    def write(self, places: Array, entries: Array) -> None:
        """Put these there, made whole; not while packets come."""
        entries["check"] = checks_of(entries)
        entries["gone"] = ~entries["check"]
        self._entries[places] = entries

    def forget(self) -> None:
        """Nobody was ever there; not while packets come."""
        self._entries[:] = np.zeros((), self._entries.dtype)


def checks_of(entries: Array) -> Array:
    """What their words sum up to. entries: contiguous."""
    words = entries.view(np.uint64).reshape(len(entries), entries.dtype.itemsize // 8)
    keys = entries.dtype["key"].itemsize // 8
    sums = np.zeros(len(entries), np.uint64)
    for column, factor in enumerate(abi.CHECK_FACTORS[: keys + 1]):
        sums += words[:, column] * np.uint64(factor)
    checks: Array = (sums >> np.uint64(32)).astype(np.uint32)
    return checks


def set_of(keys: Array, seed: tuple[int, ...], set_bits: int) -> Array:
    """By the same hash as in bpf/embryo.h."""
    words = np.ascontiguousarray(keys).view(np.uint64).reshape(len(keys), keys.dtype.itemsize // 8)
    low, high = words & np.uint64(0xFFFF_FFFF), words >> np.uint64(32)
    seeds = np.array(seed[: 2 * words.shape[1]], np.uint64).reshape(-1, 2)
    sums = ((seeds[:, 0] + low) * (seeds[:, 1] + high)).sum(axis=1, dtype=np.uint64)
    sets: Array = (sums >> np.uint64(64 - set_bits)).astype(np.int64)
    return sets


def as_connections(entries: Array, value: np.dtype[np.void], now_ns: int) -> tuple[Array, Array]:
    """Keys and values as the connection table would have them. value: its type."""
    values = np.zeros(len(entries), value)
    values["real"], values["state"] = entries["real"], entries["state"]
    values["last_seen_t"] = last_seen_t(entries, now_ns)
    values["synced_t"] = values["last_seen_t"]
    return entries["key"], values


def last_seen_t(entries: Array, now_ns: int) -> Array:
    """In ticks. Moments have 32 bits, and may be a little ahead of us."""
    now_m = now_ns >> abi.MOMENT_SHIFT
    ages = (np.uint32(now_m & 0xFFFF_FFFF) - entries["seen_m"].astype(np.uint32)).view(np.int32)
    seen: Array = np.maximum(now_m - ages.astype(np.int64), 0) >> (abi.TICK_SHIFT - abi.MOMENT_SHIFT)
    return seen
