"""The schedulers: which real gets the next new connection of a service.

What needs thought is done here, once per change: `tables` builds who is next by turns or by hash, and `plan_of` says
who is compared with whom. Who is next in the end, the packet program says (bpf/sched.h) as `lb.reference.sched` does
under the same names. The rules are IPVS's (SEED_TABLES 5.2).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lb.schedule import tables
from lb.schedule.tables import NOBODY, Table
from lb.service import Destination, Service

__all__ = [
    "FEW_SCHEDULERS",
    "LOCALITY_S",
    "NOBODY",
    "SCHEDULERS",
    "TRIES",
    "Candidate",
    "Plan",
    "Scheduler",
    "Scheduling",
    "Table",
    "has_flag",
    "list_limit",
    "plan_of",
]

FEW_SCHEDULERS = 4
"""So many different ones in one program may look at more destinations each."""

TRIES = 64
"""Slots that are looked at for a destination that is not full, before all of them are, in order."""

LOCALITY_S = 86_400.0
"""IPVS's lblc_expiration and lblcr_expiration: a destination address unused for so long is forgotten; a set of lblcr
unchanged for so long loses its most loaded real."""

_LIST_LEAST = 64


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A row of SCHEDULERS.

    build: its table (see `tables`). looks: at every destination. counts: at how many connections it has. remembers:
    which real serves which destination address.
    """

    build: Callable[[Sequence[Destination], bool], Table]
    looks: bool = False
    counts: bool = False
    remembers: bool = False


SCHEDULERS: dict[str, Scheduler] = {
    "rr": Scheduler(tables.rr_table),
    "wrr": Scheduler(tables.wrr_table),
    "lc": Scheduler(tables.no_table, looks=True, counts=True),
    "wlc": Scheduler(tables.no_table, looks=True, counts=True),
    "sed": Scheduler(tables.no_table, looks=True, counts=True),
    "nq": Scheduler(tables.no_table, looks=True, counts=True),
    "sh": Scheduler(tables.sh_table),
    "dh": Scheduler(tables.dh_table),
    "lblc": Scheduler(tables.no_table, looks=True, counts=True, remembers=True),
    "lblcr": Scheduler(tables.no_table, looks=True, counts=True, remembers=True),
    "mh": Scheduler(tables.mh_table),
    "fo": Scheduler(tables.no_table, looks=True),
    "ovf": Scheduler(tables.no_table, looks=True, counts=True),
}


class Candidate(NamedTuple):
    """A usable destination: its position in the service and its weight."""

    position: int
    weight: int


class Plan(NamedTuple):
    """What a service is scheduled by. candidates: for schedulers that look, and where a destination can be full.

    fallback: its fallback is the only one in it, at position len(service.destinations).
    """

    table: Table
    candidates: tuple[Candidate, ...]
    fallback: bool


def plan_of(service: Service) -> Plan:
    """The plan of a service. Its fallback serves only while no destination is usable, and then for every slot."""
    destinations = service.destinations
    scheduler = SCHEDULERS[service.scheduler]
    looks = scheduler.looks or any(destination.upper for destination in destinations)
    if not any(destination.usable for destination in destinations):
        if service.fallback is not None and service.fallback.usable:
            last = len(destinations)
            only = (Candidate(last, service.fallback.weight),) if looks else ()
            return Plan(np.array([last], np.uint32), only, True)
        return Plan(np.empty(0, np.uint32), (), False)
    candidates = (Candidate(n, d.weight) for n, d in enumerate(destinations) if d.usable and looks)
    return Plan(_table(service), tuple(candidates), False)


def _table(service: Service) -> Table:
    """As if those that are gone had never been there; the positions are those of all."""
    there = np.array([n for n, destination in enumerate(service.destinations) if not destination.gone], np.uint32)
    table = SCHEDULERS[service.scheduler].build([service.destinations[n] for n in there], has_flag(service, "fallback"))
    return np.where(table == NOBODY, NOBODY, there[np.minimum(table, len(there) - 1)]).astype(np.uint32)


def list_limit(schedulers: Collection[str]) -> int:
    """At how many destinations of a service each of these can look for one connection, all in one program.

    Kernels check each turn of each scheduler's loop when they load it, a million instructions in all: 425,000 for four
    that look at 256, 566,000 for all thirteen at 128, with thresholds, flags and both families.
    """
    return 256 if len(set(schedulers)) <= FEW_SCHEDULERS else 128


def has_flag(service: Service, flag: str) -> bool:
    """fallback or port: does its scheduler have this flag?"""
    return f"{service.scheduler}-{flag}" in service.flags


@dataclass(frozen=True, slots=True)
class Scheduling:
    """What of the schedulers a program must have compiled in.

    counts: it keeps how many connections each real has. limits: a real has a threshold. remembers: see `Scheduler`.
    lists: up to which service destinations are looked at. longest: how many of one service, a power of two, so that few
    changes of their number need another program.
    """

    counts: bool = False
    limits: bool = False
    remembers: bool = False
    lists: int = 0
    longest: int = _LIST_LEAST

    @classmethod
    def of(cls, services: Sequence[Service]) -> Scheduling:
        """What these services need."""
        used = {SCHEDULERS[service.scheduler] for service in services}
        limited = [any(destination.upper for destination in service.destinations) for service in services]
        looking = [n for n, service in enumerate(services) if limited[n] or SCHEDULERS[service.scheduler].looks]
        return cls(
            counts=any(limited) or any(scheduler.counts for scheduler in used),
            limits=any(limited),
            remembers=any(scheduler.remembers for scheduler in used),
            lists=max(looking, default=-1) + 1,
            longest=_power_of_two(len(services[n].destinations) for n in looking),
        )


def _power_of_two(sizes: Iterable[int]) -> int:
    return 1 << (max((_LIST_LEAST, *sizes)) - 1).bit_length()
