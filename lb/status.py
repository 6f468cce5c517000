"""The answer to `lbctl status`, as DESIGN section 3 fixes it, put together from what each part knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lb.datapath.view import HeldService
from lb.health import Health
from lb.model import Cluster, Real, Virtual
from lb.plan import Overrides, Target, ordered_weight, service_key
from lb.rates import Rates


def known_connections(held: Sequence[HeldService]) -> int:
    """How many are in the table, whoever saw them first."""
    reals = [real for service in held for real in (*service.destinations, service.fallback) if real]
    return sum(real.active + real.inactive for real in reals)


def virtuals(
    cluster: Cluster,
    healths: Mapping[Target, Health],
    overrides: Overrides,
    held: Sequence[HeldService],
    rates: Rates,
) -> list[dict[str, Any]]:
    """One document a virtual, in the file's order; counters come from the data plane, health from the checks."""
    by_key = {service.key: service for service in held}
    return [
        _virtual(virtual, healths, overrides, by_key.get(service_key(virtual)), rates) for virtual in cluster.virtuals
    ]


def _virtual(
    virtual: Virtual,
    healths: Mapping[Target, Health],
    overrides: Overrides,
    held: HeldService | None,
    rates: Rates,
) -> dict[str, Any]:
    return {
        "name": virtual.name,
        "address": str(virtual.address),
        "port": virtual.port,
        "protocol": virtual.protocol,
        "scheduler": virtual.scheduler,
        "fallback": str(virtual.fallback) if virtual.fallback else None,
        "fallback_active": held.fallback_active if held else False,
        "reals": [_real(virtual, real, healths, overrides, held, rates) for real in virtual.reals],
    }


def _real(
    virtual: Virtual,
    real: Real,
    healths: Mapping[Target, Health],
    overrides: Overrides,
    held: HeldService | None,
    rates: Rates,
) -> dict[str, Any]:
    target = (service_key(virtual), real.address)
    health = healths.get(target)
    weight = ordered_weight(target, real, overrides)
    state = health.state if health else "unknown"
    counts = next((d for d in held.destinations if d.address == real.address), None) if held else None
    return {
        "address": str(real.address),
        "name": real.name,
        "port": virtual.port,
        "forward": virtual.forward,
        "weight": weight,
        "health": "drained" if weight == 0 and state == "up" else state,
        "check": state,
        "reason": health.reason if health else "",
        "active": counts.active if counts else 0,
        "inactive": counts.inactive if counts else 0,
        "packets": counts.packets if counts else 0,
        "bytes": counts.bytes if counts else 0,
        "connections": counts.connections if counts else 0,
        "rates": dict(zip(("connections", "packets", "bytes"), rates.of(target), strict=True)),
    }
