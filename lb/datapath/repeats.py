"""SYNs that came again, by the reals that left them unanswered: what the packet program has counted (bpf/repeat.h)."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from lb.addresses import Address
from lb.datapath.lasting import Lasting
from lb.datapath.rows import Placement
from lb.service import Service, ServiceKey


class Repeats:
    """Which reals are watched, and what was read of them last. Its methods may be called from several threads."""

    def __init__(self) -> None:
        self._targets: list[tuple[ServiceKey, Address]] = []
        self._indices = np.zeros(0, np.int64)
        self._seen = np.zeros(0, np.uint32)
        self._lock = threading.Lock()

    def watch(self, lasting: Lasting, services: Sequence[Service], placements: Sequence[Placement]) -> None:
        """The reals of those services that are watched, from now on; of new ones what came before does not count."""
        rows = {
            index: (service.key, destination.address)
            for service, placement in zip(services, placements, strict=True)
            if service.watched
            for destination, index in zip(service.destinations, placement, strict=False)
        }
        indices = np.fromiter(rows, np.int64, len(rows))
        with self._lock:
            seen = lasting.repeats(indices)
            _, ours, theirs = np.intersect1d(indices, self._indices, assume_unique=True, return_indices=True)
            seen[ours] = self._seen[theirs]
            self._targets, self._indices, self._seen = list(rows.values()), indices, seen

    def read(self, lasting: Lasting) -> dict[tuple[ServiceKey, Address], int]:
        """How many came again since the last call, by real, of those that had any."""
        with self._lock:
            held = lasting.repeats(self._indices)
            more = held - self._seen  # of numbers that go round
            self._seen = held
            return {self._targets[at]: int(more[at]) for at in np.flatnonzero(more)}
