"""Schedulers that compare a service's usable reals (bpf/candidate.h). Pure.

Formulas: IPVS's (SEED_TABLES 5.2), as fractions that are compared by cross-multiplication; the earlier real wins where
two are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lb.reference.frame import Packet
from lb.reference.maps import Candidate, Load, Maps, RealKey, Schedule
from lb.service import Service

_NUMBER_BITS = 32
"""Of what positions and slots are computed from."""


@dataclass(frozen=True, slots=True)
class Request:
    """The first packet of a connection that wants a real."""

    maps: Maps
    service: Service
    schedule: Schedule
    packet: Packet
    now_t: int

    def load(self, candidate: Candidate) -> Load:
        """Of its real."""
        return self.maps.reals[candidate.real].load

    def free(self) -> Iterator[Candidate]:
        """The candidates that are not full."""
        return (candidate for candidate in self.schedule.candidates if self.takes(candidate.real))

    def takes(self, real: RealKey | None) -> bool:
        """Is it somebody, and not full?"""
        return real is not None and not self.maps.reals[real].load.full


class Cost(NamedTuple):
    """Smaller is better. per 0: not to be chosen."""

    of: int
    per: int


WORST_OF_ALL = Cost(1, 0)
"""Anything that may be chosen is below it."""

CostOf = Callable[[Load, int], Cost]
"""Of a real's load and weight."""


def is_below(a: Cost, b: Cost) -> bool:
    """By cross-multiplication."""
    return a.of * b.per < b.of * a.per


def overhead(load: Load) -> int:
    """An active connection counts for 256 inactive ones."""
    return load.active * 256 + load.inactive


def cost_lc(load: Load, weight: int) -> Cost:  # noqa: ARG001
    """Fewest connections."""
    return Cost(overhead(load), 1)


def cost_wlc(load: Load, weight: int) -> Cost:
    """Fewest connections for its weight."""
    return Cost(overhead(load), weight)


def cost_sed(load: Load, weight: int) -> Cost:
    """The shortest delay to expect: as if it had the new connection already."""
    return Cost(load.active + 1, weight)


def cost_nq(load: Load, weight: int) -> Cost:
    """Nobody waits while one is idle; else as sed."""
    return cost_sed(load, weight) if load.active else Cost(0, 1)


def cost_fo(load: Load, weight: int) -> Cost:  # noqa: ARG001
    """The highest weight."""
    return Cost(1, weight)


def cost_ovf(load: Load, weight: int) -> Cost:
    """The highest weight with no more active connections than that."""
    return Cost(0, 0) if load.active > weight else cost_fo(load, weight)


def least(request: Request, cost_of: CostOf) -> Candidate | None:
    """The candidate of the smallest cost."""
    best, chosen = WORST_OF_ALL, None
    for candidate in request.free():
        cost = cost_of(request.load(candidate), candidate.weight)
        if is_below(cost, best):
            best, chosen = cost, candidate
    return chosen


def anybody(request: Request, start: int) -> RealKey | None:
    """The first in order that is not full, from `start` on."""
    candidates = request.schedule.candidates
    for step in range(len(candidates)):
        real = candidates[(start + step) % (1 << _NUMBER_BITS) % len(candidates)].real
        if request.takes(real):
            return real
    return None
