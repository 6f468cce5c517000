"""The counts of connections by real that schedulers and thresholds go by: user space's half of struct load.

The packet program adds to its two fields of a row; only we write the corrections, so that nothing is lost between us.
What a reader sees is the sum: the entries of the table, those that ran out and are still there among them. Two things
happen unseen, that the table pushes an entry out, and that two CPUs change one entry at once: hence `correct`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lb.bpf import Array, Map
from lb.datapath.rows import Placement
from lb.service import Service


class Loads:
    """Every method wants the same lock held."""

    def __init__(self, opened: Map) -> None:
        self._rows = opened.mapped()
        self._limited = np.flatnonzero(self._rows["upper"])

    def counts(self) -> Array:
        """Active (row 0) and inactive (row 1) connections by index of their real, as the program sees them now."""
        rows = self._rows
        sums = np.stack([rows["active"] + rows["active_fix"], rows["inactive"] + rows["inactive_fix"]])
        return sums.astype(np.int64)

    def add(self, change: Array) -> None:
        """So many more; of the shape of `counts`."""
        for name, column in zip(("active_fix", "inactive_fix"), change, strict=True):
            moved = np.flatnonzero(column)
            self._rows[name][moved] += column[moved].astype(np.int32)
        self._mark()

    def correct(self, before: Array, counted: Array) -> None:
        """Make the counts those of the table. before: `counts` when the counting began. counted: what was found.

        Connections come and go while the table is read, and whether one of them was found is chance. So a count that
        lies between the ones before and after is believed as it is, and another one is moved no further than needed.
        """
        after = self.counts()
        self.add(counted - np.clip(counted, np.minimum(before, after), np.maximum(before, after)))

    def begin(self, fresh: Array) -> None:
        """These rows are other reals' from now on."""
        self._rows["repeats"][fresh] = 0

    def repeats(self, indices: Array) -> Array:
        """How many SYNs came again, by now and modulo 2^32, for each of these rows."""
        held: Array = self._rows["repeats"][indices]
        return held

    def set_limits(self, services: Sequence[Service], placements: Iterable[Placement]) -> None:
        """The thresholds of these services' reals; all others have none. A real with new ones is full at its upper."""
        limits = np.zeros((2, len(self._rows)), np.uint32)
        for service, placement in zip(services, placements, strict=True):
            for destination, index in zip(service.destinations, placement, strict=False):
                upper = destination.upper
                limits[:, index] = upper, destination.lower or upper - upper // 4
        changed = np.flatnonzero((limits[0] != self._rows["upper"]) | (limits[1] != self._rows["lower"]))
        self._rows["upper"][changed], self._rows["lower"][changed] = limits[:, changed]
        self._rows["full"][changed] = 0
        self._limited = np.flatnonzero(limits[0])
        self._mark()

    def _mark(self) -> None:
        """See `lb.reference.load.mark_full`."""
        if len(self._limited):
            rows = self._rows[self._limited]
            total = np.maximum(self.counts()[:, self._limited], 0).sum(axis=0)
            full = np.where(rows["full"], total >= rows["lower"], total >= rows["upper"])
            changed = full != rows["full"]
            self._rows["full"][self._limited[changed]] = full[changed]
