"""With what weight each real of a virtual takes new connections now. Pure.

An order by hand goes before the weight that a real asks for in its answers, and that before the file's. Health then
takes out who is not up: but not below `min_up`, for when most reals seem to be dead it is more likely that the checks
are wrong, or that the few left would follow. A real that rose takes its share step by step, where `slow_start` asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lb.health import Health
from lb.model import Virtual

STEPS = 10
"""In how many steps a slow start comes to the whole weight."""
WEIGHT_MAX = 65535
_NEARLY = 1e-6
"""Of a step: so that a timer set for its end finds it ended, whatever floating point makes of the sum."""


class Standing(NamedTuple):
    """How the reals of one virtual stand.

    weights: for new connections, one a real in the file's order. overruled: were reals that are down given traffic,
    because fewer than `min_up` would be left? next_s: when a slow start takes its next step (monotonic seconds), None
    where none is under way. settled: has every real been checked?
    """

    weights: tuple[int, ...]
    overruled: bool = False
    next_s: float | None = None
    settled: bool = True

    @property
    def served(self) -> bool:
        """Does any real take new connections?"""
        return any(self.weights)


def standing(virtual: Virtual, healths: Sequence[Health], ordered: Sequence[int], now_s: float) -> Standing:
    """Weigh the reals of one virtual.

    healths, ordered: one a real. ordered: the weight that file, answers and orders give it whatever its health, 0 while
    drained. now_s: monotonic seconds.
    """
    settled = all(health.state != "unknown" for health in healths)
    if _overruled(virtual, healths, ordered):
        weights = [0 if health.state == "unknown" else weight for health, weight in zip(healths, ordered, strict=True)]
        return Standing(tuple(weights), overruled=True, settled=settled)
    weights = [weight if health.state == "up" else 0 for health, weight in zip(healths, ordered, strict=True)]
    steps = [_step(virtual.slow_start, health, now_s) for health in healths]
    if min(steps, default=STEPS) == STEPS:
        return Standing(tuple(weights), settled=settled)
    scale = STEPS if max(weights) * STEPS <= WEIGHT_MAX else 1
    return Standing(
        tuple(_part(weight * scale, step) for weight, step in zip(weights, steps, strict=True)),
        next_s=min(_end_s(virtual.slow_start, h, step) for h, step in zip(healths, steps, strict=True) if step < STEPS),
        settled=settled,
    )


def _overruled(virtual: Virtual, healths: Sequence[Health], ordered: Sequence[int]) -> bool:
    """Would health leave too few? Who is drained counts for neither side, and who was not asked yet is not out.

    With nobody up a fallback serves, if there is one; `off` is an order, and not a verdict.
    """
    if virtual.check.type == "off":
        return False
    meant = [health.state for health, weight in zip(healths, ordered, strict=True) if weight]
    left = len(meant) - meant.count("down")
    return left < _least(virtual.min_up, len(meant)) and (left > 0 or virtual.fallback is None)


def _least(min_up: int | str, count: int) -> int:
    """How many of `count` reals health must leave."""
    return min(min_up, count) if isinstance(min_up, int) else math.ceil(count * int(min_up.rstrip("%")) / 100)


def starts_slowly(virtual: Virtual, health: Health, now_s: float) -> bool:
    """Has the real not yet its whole weight?"""
    return _step(virtual.slow_start, health, now_s) < STEPS


def _step(slow_start_s: float, health: Health, now_s: float) -> int:
    """How far a real is that rose: 1 to STEPS, which is the end. Only a real that was down starts slowly: after a start
    of the director itself all reals are new to it, and not cold."""
    if not slow_start_s or (health.state, health.was) != ("up", "down"):
        return STEPS
    return min(STEPS, 1 + int((now_s - health.since_s) * STEPS / slow_start_s + _NEARLY))


def _end_s(slow_start_s: float, health: Health, step: int) -> float:
    return health.since_s + step * slow_start_s / STEPS


def _part(weight: int, step: int) -> int:
    return max(1, weight * step // STEPS) if weight else 0
