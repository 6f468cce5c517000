"""The schedulers' tables in the kernel: written beside those in use, then made current by one store."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lb.bpf import Map
from lb.datapath.rows import Placement
from lb.errors import DataPathError
from lb.schedule import NOBODY, Candidate, Table

Region = tuple[int, int]
"""First slot and number of slots."""

_MEANINGS = 0xFFFF


class SlotTables:
    """The tables of one loaded program, shared with it by mmap."""

    def __init__(self, schedules: Map, slots: Map) -> None:
        self._current = schedules.mapped()["table"]
        self._slots = slots.mapped()
        self._regions: dict[int, Region] = {}
        self._previous: dict[int, Region] = {}

    def publish(self, service: int, table: Table, placement: Placement) -> None:
        """Let new connections of a service be scheduled by this table; the same one again changes nothing.

        placement: the index of each real by its position. The table before it stays as it was until the next
        publication, for packets that are being scheduled by it. x86 makes stores visible in order; on other machines
        the next system call does. Raises DataPathError when the slots do not suffice.
        """
        indices = np.append(np.array(placement, np.uint32), np.uint32(NOBODY))[np.minimum(table, len(placement))]
        current = self._regions.get(service)
        if current and np.array_equal(self._slots[current[0] : sum(current)], indices):
            return
        self._previous.pop(service, None)
        base = first_fit([*self._regions.values(), *self._previous.values()], len(indices), len(self._slots))
        self._slots[base : base + len(indices)] = indices
        self._current[service] = np.uint64(len(indices) << 32 | base)
        if current:
            self._previous[service] = current
        self._regions[service] = (base, len(indices))


class Lists:
    """The lists of candidates of one loaded program, shared with it by mmap. Each service has two rows in turn."""

    def __init__(self, schedules: Map, lists: Map) -> None:
        self._current = schedules.mapped()["list"]
        self._entries = lists.mapped()["entries"]
        self._published: dict[int, tuple[tuple[Candidate, ...], Placement]] = {}
        self._meanings: dict[int, int] = {}

    def publish(self, service: int, candidates: tuple[Candidate, ...], placement: Placement) -> None:
        """Let new connections of a service be scheduled by these; as `SlotTables.publish`."""
        before = self._published.get(service, ((), ()))
        if before[1] != placement:
            self._meanings[service] = self._meanings.get(service, 0) % _MEANINGS + 1
        self._published[service] = candidates, placement
        if before == (candidates, placement) or not (candidates or before[0]):
            return
        row = 2 * service + (1 - (int(self._current[service]) & 1))
        self._entries[row, : len(candidates)] = [
            placement[position] | weight << 32 | position << 48 for position, weight in candidates
        ]
        self._current[service] = np.uint64(self._meanings[service] << 48 | len(candidates) << 32 | row)


def first_fit(taken: Iterable[Region], length: int, size: int) -> int:
    """Where `length` slots of `size` are free between the regions taken. Raises DataPathError."""
    end = 0
    for base, count in sorted(taken):
        if base - end >= length:
            break
        end = max(end, base + count)
    if end + length > size:
        raise DataPathError(f"the schedulers need more than {size} slots; use smaller weights, fewer services")
    return end
