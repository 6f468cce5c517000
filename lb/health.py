"""Is a real well? Rises and failures in a row, as a table. Pure: time is an argument.

    unknown ──passed──→ up ──`failures` failed in a row──→ down ──`rises` passed in a row──→ up
       └──────failed──→ down

The first verdict decides: a real that was never seen well gets no traffic anyway, so `failures` would only hide the
reason and delay the fallback, and `rises` would only delay the service. A check that goes against the state without
yet changing it is soft: it counts, it is shown, and one check that agrees with the state forgets it (ldirectord's
"soft failure", SEED_TABLES 2.8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from lb.model import Check

State = Literal["unknown", "up", "down"]


class Outcome(NamedTuple):
    """What one check said. reason: short, for people, also where it passed. latency_s: how long the real took."""

    ok: bool
    reason: str
    latency_s: float


class Health(NamedTuple):
    """What is known of one real.

    since_s: when `state` began, monotonic seconds. reason: what the last check said; while down, the last that failed.
    failed, passed: how many in a row ended so; one of them is 0. latency_s: of the last check, None before the first.
    """

    state: State = "unknown"
    since_s: float = 0.0
    reason: str = "not checked yet"
    failed: int = 0
    passed: int = 0
    latency_s: float | None = None

    @property
    def soft(self) -> bool:
        """Did the last check go against the state without changing it?"""
        return (self.state == "up" and self.failed > 0) or (self.state == "down" and self.passed > 0)


class Change(NamedTuple):
    """A state that ended. lasted_s: how long it had been so."""

    was: State
    lasted_s: float


class Rule(NamedTuple):
    """Where an outcome leads, once it came `needed` times in a row."""

    to: State
    needed: Callable[[Check], int]


def _once(_check: Check) -> int:
    return 1


RULES: Mapping[tuple[State, bool], Rule] = {
    ("unknown", True): Rule("up", _once),
    ("unknown", False): Rule("down", _once),
    ("up", True): Rule("up", _once),
    ("up", False): Rule("down", lambda check: check.failures),
    ("down", True): Rule("up", lambda check: check.rises),
    ("down", False): Rule("down", _once),
}
"""(state, did the check pass?) → rule. `lbctl`'s whole judgement of reals is in these six rows."""


def step(health: Health, outcome: Outcome, check: Check, now_s: float) -> tuple[Health, Change | None]:
    """Advance by one outcome. now_s: monotonic seconds. The change is None where the state stays what it was."""
    failed = 0 if outcome.ok else health.failed + 1
    passed = health.passed + 1 if outcome.ok else 0
    rule = RULES[health.state, outcome.ok]
    state = rule.to if max(failed, passed) >= rule.needed(check) else health.state
    reason = health.reason if state == "down" and outcome.ok else outcome.reason
    if state == health.state:
        return Health(state, health.since_s, reason, failed, passed, outcome.latency_s), None
    return (
        Health(state, now_s, reason, failed, passed, outcome.latency_s),
        Change(health.state, now_s - health.since_s),
    )
