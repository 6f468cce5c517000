"""A real for the first packet of a connection (bpf/sched.h, and lb.schedule, whose slot functions are taken). Pure."""

from __future__ import annotations

from lb.reference.maps import Configuration, Maps, RealKey
from lb.schedule import SCHEDULERS

TAKE_TURNS = frozenset({"rr", "wrr"})
"""Those whose every new connection moves the cursor."""

_CURSOR_BITS = 32
"""What of the cursor a slot is computed from."""


def schedule_connection(maps: Maps, configuration: Configuration, service: int, client: int) -> RealKey | None:
    """Who gets the connection; None: nobody can."""
    schedule = maps.schedules[service]
    if not schedule.table:
        return None
    name = configuration.services[service].scheduler
    slot = SCHEDULERS[name].slot(schedule.cursor % (1 << _CURSOR_BITS), client)
    if name in TAKE_TURNS:
        schedule.cursor += 1
    return schedule.table[slot % len(schedule.table)]
