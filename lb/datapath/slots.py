"""The schedulers' tables in the kernel: written beside the one in use, then made current by one store."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lb.bpf import Map
from lb.errors import DataPathError
from lb.schedule import Table

Region = tuple[int, int]
"""First slot and number of slots."""


class SlotTables:
    """The tables of one loaded program, shared with it by mmap."""

    def __init__(self, schedules: Map, slots: Map) -> None:
        self._current = schedules.mapped()["table"]
        self._slots = slots.mapped()
        self._regions: dict[int, Region] = {}
        self._previous: dict[int, Region] = {}

    def publish(self, service: int, indices: Table) -> None:
        """Let new connections of a service be scheduled by this table; the same one again changes nothing.

        The table before it stays as it was until the next publication, for packets that are being scheduled by it.
        x86 makes stores visible in order; on other machines the next system call does. Raises DataPathError when the
        slots do not suffice.
        """
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
