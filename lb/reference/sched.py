"""A real for the first packet of a connection (bpf/sched.h, and lb.schedule, whose slot functions are taken). Pure."""

from __future__ import annotations

from lb.reference.maps import IPV6, Configuration, Maps, RealKey
from lb.schedule import SCHEDULERS

TAKE_TURNS = frozenset({"rr", "wrr"})
"""Those whose every new connection moves the cursor."""

_CURSOR_BITS = 32
"""What of the cursor a slot is computed from."""


def hashed_client(client: int) -> int:
    """The client as schedulers hash it: of IPv6 the sum, without carry, of the address's four words, as in IPVS."""
    if not client & IPV6:
        return client
    words = [client >> shift & 0xFFFF_FFFF for shift in (96, 64, 32, 0)]
    return words[0] ^ words[1] ^ words[2] ^ words[3]


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
