"""Is a real well? Rises and failures in a row, as a table. Pure: time is an argument.

    unknown ──passed──→ up ──`failures` failed in a row──→ down ──`rises` passed in a row──→ up
       └──────failed──→ down

The first verdict decides: a real that was never seen well gets no traffic anyway, so `failures` would only hide the
reason and delay the fallback, and `rises` would only delay the service. A check that goes against the state without
yet changing it is soft: it counts, it is shown, and one check that agrees with the state forgets it (ldirectord's
"soft failure", SEED_TABLES 2.8).

A real that falls again and again is held down for a while, where `flaps` asks for it: one that fell `flaps` times
within `flap_window` does not come up before the first of those falls is older than that. So no real falls more often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from lb.model import Check, format_duration

State = Literal["unknown", "up", "down"]


class Outcome(NamedTuple):
    """What one check said.

    reason: short, for people, also where it passed. latency_s: how long the real took. weight: what the real itself
    asked for in its answer, None where it did not. warning: what will be wrong soon with a real that passed.
    """

    ok: bool
    reason: str
    latency_s: float
    weight: int | None = None
    warning: str = ""


class Health(NamedTuple):
    """What is known of one real.

    since_s: when `state` began, monotonic seconds. reason: what the last check said; while down, the last that failed.
    failed, passed: how many in a row ended so; one of them is 0. latency_s: of the last check, None before the first.
    was: the state before this one. falls_s: when it last went from up to down, the newest last, at most `flaps` of
    them. weight: what its last answer that passed asked for, None where it did not. warning: of the last check.
    """

    state: State = "unknown"
    since_s: float = 0.0
    reason: str = "not checked yet"
    failed: int = 0
    passed: int = 0
    latency_s: float | None = None
    was: State = "unknown"
    falls_s: tuple[float, ...] = ()
    weight: int | None = None
    warning: str = ""

    @property
    def soft(self) -> bool:
        """Did the last check go against the state without changing it?"""
        return (self.state == "up" and self.failed > 0) or (self.state == "down" and self.passed > 0)


class Change(NamedTuple):
    """A state that ended. lasted_s: how long it had been so."""

    was: State
    lasted_s: float


class Rule(NamedTuple):
    """Where an outcome leads, once it came `needed` times in a row, and not before a time (monotonic seconds)."""

    to: State
    needed: Callable[[Check], int]
    not_before_s: Callable[[Health, Check], float]


def _once(_check: Check) -> int:
    return 1


def _at_once(_health: Health, _check: Check) -> float:
    return -math.inf


def held_until_s(health: Health, check: Check) -> float:
    """Until when a real that fell too often stays down, monotonic seconds; long ago for others."""
    if not check.flaps or len(health.falls_s) < check.flaps:
        return -math.inf
    return health.falls_s[-check.flaps] + check.flap_window


RULES: Mapping[tuple[State, bool], Rule] = {
    ("unknown", True): Rule("up", _once, _at_once),
    ("unknown", False): Rule("down", _once, _at_once),
    ("up", True): Rule("up", _once, _at_once),
    ("up", False): Rule("down", lambda check: check.failures, _at_once),
    ("down", True): Rule("up", lambda check: check.rises, held_until_s),
    ("down", False): Rule("down", _once, _at_once),
}
"""(state, did the check pass?) → rule. `lbctl`'s whole judgement of reals is in these six rows."""


def step(health: Health, outcome: Outcome, check: Check, now_s: float) -> tuple[Health, Change | None]:
    """Advance by one outcome. now_s: monotonic seconds. The change is None where the state stays what it was."""
    rule = RULES[health.state, outcome.ok]
    counted = health._replace(
        failed=0 if outcome.ok else health.failed + 1,
        passed=health.passed + 1 if outcome.ok else 0,
        latency_s=outcome.latency_s,
        warning=outcome.warning,
        weight=outcome.weight if outcome.ok else health.weight,
    )
    enough = max(counted.failed, counted.passed) >= rule.needed(check)
    held = enough and now_s < rule.not_before_s(health, check)
    if rule.to == health.state or not enough or held:
        return counted._replace(reason=_reason(health, outcome, check, held)), None
    fell = rule.to == "down" and health.state == "up" and check.flaps
    return (
        counted._replace(
            state=rule.to, since_s=now_s, reason=outcome.reason, was=health.state,
            falls_s=(*health.falls_s, now_s)[-check.flaps :] if fell else health.falls_s,
        ),
        Change(health.state, now_s - health.since_s),
    )  # fmt: skip


def _reason(health: Health, outcome: Outcome, check: Check, held: bool) -> str:
    """What is said of a real whose state stays: while down, why it is not up."""
    if held:
        return f"passes, but is held down: it fell {check.flaps} times within {format_duration(check.flap_window)}"
    return health.reason if health.state == "down" and outcome.ok else outcome.reason
