"""A real for the first packet of a connection (bpf/sched.h). Pure.

Those by turns and by hash pick a slot of a table that `lb.schedule` built; those by counts compare the candidates.
"""

from __future__ import annotations

from collections.abc import Callable

from lb.reference.candidate import (
    CostOf,
    Request,
    anybody,
    cost_fo,
    cost_lc,
    cost_nq,
    cost_ovf,
    cost_sed,
    cost_wlc,
    least,
)
from lb.reference.frame import Packet
from lb.reference.locality import schedule_lblc, schedule_lblcr
from lb.reference.maps import IPV6, Configuration, Maps, RealKey
from lb.schedule import TRIES, has_flag

_NUMBER_BITS = 32
"""Of the cursor, and of hashes."""


def schedule_rr(request: Request) -> RealKey | None:
    """Each in turn."""
    return in_turn(request)


def schedule_wrr(request: Request) -> RealKey | None:
    """Each in turn; the weights are in the table."""
    return in_turn(request)


def in_turn(request: Request) -> RealKey | None:
    """The next that is not full. Who is passed over has had his turn."""
    schedule = request.schedule
    if not schedule.table:
        return None
    for _ in range(TRIES):
        real = schedule.table[schedule.cursor % len(schedule.table)]
        schedule.cursor = (schedule.cursor + 1) % (1 << _NUMBER_BITS)
        if request.takes(real):
            return real
    return anybody(request, schedule.cursor)


def schedule_sh(request: Request) -> RealKey | None:
    """By the client's address, with sh-port by its port too."""
    return by_hash(request, hash_sh(client_of(request)), 2, 0)


def schedule_dh(request: Request) -> RealKey | None:
    """By the destination's address."""
    return by_hash(request, hash_sh(folded(request.packet.key.virtual)), 2, 0)


def schedule_mh(request: Request) -> RealKey | None:
    """By the client's address, with mh-port by its port too."""
    return by_hash(request, hash_mh(client_of(request)), 1, 1)


def hash_sh(value: int) -> int:
    """IPVS's: the upper 8 bits of a multiplication by 2^32 / phi."""
    return (value * 0x61C88647 & 0xFFFFFFFF) >> 24


def hash_mh(value: int) -> int:
    """MurmurHash3's finalizer: every bit of the value decides over every bit."""
    value ^= value >> 16
    value = value * 0x85EBCA6B & 0xFFFFFFFF
    value ^= value >> 13
    value = value * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def folded(address: int) -> int:
    """An address as schedulers hash it: of IPv6 the sum, without carry, of its four words, as in IPVS."""
    if not address & IPV6:
        return address
    words = [address >> shift & 0xFFFF_FFFF for shift in (96, 64, 32, 0)]
    return words[0] ^ words[1] ^ words[2] ^ words[3]


def client_of(request: Request) -> int:
    """What hashes go by."""
    key = request.packet.key
    return (folded(key.client) + (key.client_port if has_flag(request.service, "port") else 0)) % (1 << _NUMBER_BITS)


def by_hash(request: Request, hashed: int, step_by: int, step: int) -> RealKey | None:
    """The owner of the hash's slot; if it is full, and the service falls back, the first that is not. After slot s the
    search begins at step_by * s + step."""
    table = request.schedule.table
    if not table:
        return None
    real = table[hashed % len(table)]
    if request.takes(real) or not has_flag(request.service, "fallback"):
        return real if request.takes(real) else None
    start = (hashed % len(table) * step_by + step) % len(table)
    for n in range(TRIES):
        real = table[(start + n) % len(table)]
        if request.takes(real):
            return real
    return anybody(request, start)


def _least(cost_of: CostOf) -> Callable[[Request], RealKey | None]:
    def schedule(request: Request) -> RealKey | None:
        chosen = least(request, cost_of)
        return None if chosen is None else chosen.real

    return schedule


SCHEDULERS: dict[str, Callable[[Request], RealKey | None]] = {
    "rr": schedule_rr,
    "wrr": schedule_wrr,
    "lc": _least(cost_lc),
    "wlc": _least(cost_wlc),
    "sed": _least(cost_sed),
    "nq": _least(cost_nq),
    "sh": schedule_sh,
    "dh": schedule_dh,
    "lblc": schedule_lblc,
    "lblcr": schedule_lblcr,
    "mh": schedule_mh,
    "fo": _least(cost_fo),
    "ovf": _least(cost_ovf),
}


def schedule_connection(
    maps: Maps, configuration: Configuration, service: int, packet: Packet, now_t: int
) -> RealKey | None:
    """Who gets the connection; None: nobody can."""
    wanted = configuration.services[service]
    return SCHEDULERS[wanted.scheduler](Request(maps, wanted, maps.schedules[service], packet, now_t))
