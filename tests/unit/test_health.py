"""Health: every row of the table, every soft failure, and a naive model that Hypothesis compares it with."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.health import RULES, Change, Health, Outcome, State, step
from lb.model import Check

PASS = Outcome(True, "status 200", 0.003)
FAIL = Outcome(False, "refused", 0.001)


def run(word: str, check: Check, start: Health | None = None) -> tuple[Health, list[Change]]:
    """Feed one outcome a second, from second 1: 'p' passed, 'f' failed."""
    health, changes = start or Health(), []
    for second, letter in enumerate(word, 1):
        health, change = step(health, PASS if letter == "p" else FAIL, check, float(second))
        if change:
            changes.append(change)
    return health, changes


def test_the_table_has_every_state_and_outcome() -> None:
    assert set(RULES) == set(itertools.product(("unknown", "up", "down"), (True, False)))


@pytest.mark.parametrize(
    ("word", "state", "since_s", "failed", "passed", "soft"),
    [
        ("p", "up", 1, 0, 1, False),
        ("f", "down", 1, 1, 0, False),
        ("pp", "up", 1, 0, 2, False),
        ("ff", "down", 1, 2, 0, False),
        ("pf", "up", 1, 1, 0, True),
        ("pff", "up", 1, 2, 0, True),
        ("pffp", "up", 1, 0, 1, False),
        ("pffpff", "up", 1, 2, 0, True),
        ("pfff", "down", 4, 3, 0, False),
        ("pffff", "down", 4, 4, 0, False),
        ("pfffp", "down", 4, 0, 1, True),
        ("pfffpf", "down", 4, 1, 0, False),
        ("pfffpfp", "down", 4, 0, 1, True),
        ("pfffpp", "up", 6, 0, 2, False),
        ("fp", "down", 1, 0, 1, True),
        ("fpp", "up", 3, 0, 2, False),
    ],
)
def test_three_failures_two_rises(
    word: str, state: State, since_s: float, failed: int, passed: int, soft: bool
) -> None:
    health, _ = run(word, Check(failures=3, rises=2))
    assert (health.state, health.since_s, health.failed, health.passed) == (state, since_s, failed, passed)
    assert health.soft is soft


def test_one_failure_is_enough_where_one_is_asked_for() -> None:
    assert run("pf", Check(failures=1))[0].state == "down"
    assert run("pfp", Check(failures=1, rises=1))[0].state == "up"


def test_a_change_tells_what_was_and_for_how_long() -> None:
    _, changes = run("pppff" + "fffp", Check(failures=2, rises=1), Health(since_s=0.5))
    assert changes == [Change("unknown", 0.5), Change("up", 4.0), Change("down", 4.0)]


def test_the_reason_of_a_down_real_is_its_last_failure() -> None:
    check = Check(failures=1, rises=2)
    health, _ = step(Health(), Outcome(False, "refused", 0.1), check, 1.0)
    health, _ = step(health, Outcome(False, "status 500, expected 2xx", 0.2), check, 2.0)
    assert (health.reason, health.latency_s) == ("status 500, expected 2xx", 0.2)
    health, _ = step(health, Outcome(True, "status 200", 0.3), check, 3.0)
    assert (health.state, health.reason, health.latency_s) == ("down", "status 500, expected 2xx", 0.3)
    health, _ = step(health, Outcome(True, "status 200", 0.4), check, 4.0)
    assert (health.state, health.reason, health.latency_s) == ("up", "status 200", 0.4)


def test_the_reason_of_a_soft_failure_is_seen_while_up_and_goes_again() -> None:
    health, _ = run("pf", Check(failures=3))
    assert (health.state, health.reason) == ("up", "refused")
    health, _ = run("pfp", Check(failures=3))
    assert (health.state, health.reason) == ("up", "status 200")


def test_a_remembered_state_is_held_to_the_same_counts() -> None:
    check = Check(failures=2, rises=2)
    assert run("f", check, Health("up"))[0].state == "up"
    assert run("ff", check, Health("up"))[0].state == "down"
    assert run("p", check, Health("down"))[0].state == "down"
    assert run("pp", check, Health("down"))[0].state == "up"


def naive(word: str, failures: int, rises: int) -> State:
    """The same by looking at the whole history each time: the last run of equal letters that was long enough."""
    state: State = "unknown"
    for end in range(1, len(word) + 1):
        history = word[:end]
        if state == "unknown":
            state = "up" if history == "p" else "down"
        elif state == "up" and history.endswith("f" * failures):
            state = "down"
        elif state == "down" and history.endswith("p" * rises):
            state = "up"
    return state


@given(st.text("pf", max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_agrees_with_the_naive_model(word: str, failures: int, rises: int) -> None:
    check = Check(failures=failures, rises=rises)
    health, changes = run(word, check)
    assert health.state == naive(word, failures, rises)
    states = [naive(word[:n], failures, rises) for n in range(len(word) + 1)]
    starts = [n for n in range(1, len(states)) if states[n] != states[n - 1]]
    assert [change.was for change in changes] == [states[n - 1] for n in starts]
    assert [change.lasted_s for change in changes] == [
        float(now - then) for then, now in zip([0, *starts], starts, strict=False)
    ]
    assert health.since_s == (starts[-1] if starts else 0)


def test_every_history_of_ten_checks() -> None:
    """Exhaustive where the model is small enough: 1024 histories, nine settings."""
    for failures, rises in itertools.product((1, 2, 3), repeat=2):
        check = Check(failures=failures, rises=rises)
        for letters in itertools.product("pf", repeat=10):
            word = "".join(letters)
            assert run(word, check)[0].state == naive(word, failures, rises), (word, failures, rises)
