"""The answer to `lbctl status`, as DESIGN section 3 fixes it, put together from what each part knows. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from lb.datapath.view import HeldService
from lb.health import Health
from lb.history import Histories
from lb.model import Cluster, Real, Virtual
from lb.plan import UNKNOWN, Overrides, Target, ordered_weight, service_key
from lb.rates import Rates
from lb.service import ServiceKey
from lb.weights import Standing, starts_slowly


def known_connections(held: Sequence[HeldService]) -> int:
    """How many are in the table, whoever saw them first."""
    reals = [real for service in held for real in (*service.destinations, service.fallback) if real]
    return sum(real.active + real.inactive for real in reals)


class Known(NamedTuple):
    """What a director knows of its reals.

    orders: by hand and by maintenance. maintained: the file that put a real into maintenance. standings: what the
    packet path follows. now_s: monotonic seconds, the clock of the healths.
    """

    healths: Mapping[Target, Health]
    orders: Overrides
    maintained: Mapping[Target, str]
    standings: Mapping[ServiceKey, Standing]
    now_s: float


def virtuals(cluster: Cluster, known: Known, held: Sequence[HeldService], rates: Rates) -> list[dict[str, Any]]:
    """One document a virtual, in the file's order; counters come from the data plane, health from the checks."""
    by_key = {service.key: service for service in held}
    return [_virtual(virtual, known, by_key.get(service_key(virtual)), rates) for virtual in cluster.virtuals]


def reals(
    cluster: Cluster, known: Known, histories: Histories, rates: Rates, targets: Collection[Target]
) -> list[dict[str, Any]]:
    """One document for each of these reals: what `virtuals` says of it but the data plane's counts, and its history."""
    return [
        {
            "virtual": virtual.name,
            **_health(virtual, real, known),
            "asked": virtual.check.name,
            "rates": _rates(target, rates),
            "history": [entry.document() for entry in reversed(histories.of(target))],
        }
        for virtual in cluster.virtuals
        for real in virtual.reals
        if (target := (service_key(virtual), real.address)) in targets
    ]


def _virtual(virtual: Virtual, known: Known, held: HeldService | None, rates: Rates) -> dict[str, Any]:
    stand = known.standings.get(service_key(virtual))
    return {
        "name": virtual.name,
        "address": str(virtual.address),
        "port": virtual.port,
        "protocol": virtual.protocol,
        "also": [{**pair._asdict(), "address": str(pair.address)} for pair in virtual.pairs[1:]],
        "scheduler": virtual.scheduler,
        "fallback": str(virtual.fallback) if virtual.fallback else None,
        "fallback_active": held.fallback_active if held else False,
        "overruled": stand.overruled if stand else False,
        "reals": [_real(virtual, real, known, held, rates) for real in virtual.reals],
    }


def _real(virtual: Virtual, real: Real, known: Known, held: HeldService | None, rates: Rates) -> dict[str, Any]:
    counts = next((d for d in held.destinations if d.address == real.address), None) if held else None
    return {
        **_health(virtual, real, known),
        "active": counts.active if counts else 0,
        "inactive": counts.inactive if counts else 0,
        "persistent": counts.persistent if counts else 0,
        "packets": counts.packets if counts else 0,
        "bytes": counts.bytes if counts else 0,
        "connections": counts.connections if counts else 0,
        "repeats": counts.repeats if counts else 0,
        "rates": _rates((service_key(virtual), real.address), rates),
    }


def _health(virtual: Virtual, real: Real, known: Known) -> dict[str, Any]:
    """What is configured, ordered and known of a real."""
    target = (service_key(virtual), real.address)
    health = known.healths.get(target, UNKNOWN)
    weight = ordered_weight(target, real, known.orders, health)
    return {
        "address": str(real.address),
        "name": real.name,
        "port": virtual.port,
        "forward": virtual.forward_of(real),
        "weight": weight,
        "health": "drained" if weight == 0 and health.state == "up" else health.state,
        "check": health.state,
        "reason": health.reason,
        "warning": health.warning,
        "for_s": round(known.now_s - health.since_s, 1) if target in known.healths else None,
        "latency_ms": None if health.latency_s is None else round(1000 * health.latency_s, 1),
        "maintenance": known.maintained.get(target),
        "starts_slowly": starts_slowly(virtual, health, known.now_s),
    }


def _rates(target: Target, rates: Rates) -> dict[str, float]:
    return dict(zip(("connections", "packets", "bytes"), rates.of(target), strict=True))
