"""Health: every row of the table, every soft failure, and a naive model that Hypothesis compares it with."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.health import RULES, Change, Health, Outcome, State, held_until_s, step
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


def ldirectord(word: str, failurecount: int) -> list[bool]:
    """Which checks leave a real in service, by ldirectord's rules (SEED_TABLES 2.8): down at first, one success is
    enough, `failurecount` failures in a row take it out, and a failure while it is out is nothing."""
    up, failcount, history = False, 0, []
    for letter in word:
        if letter == "p":
            up, failcount = True, 0
        elif up:
            failcount += 1
            up = failcount < failurecount
        history.append(up)
    return history


@given(st.text("pf", max_size=60), st.integers(1, 5))
def test_agrees_with_ldirectord_where_one_rise_is_enough(word: str, failures: int) -> None:
    check = Check(failures=failures, rises=1)
    ours = [run(word[:end], check)[0].state == "up" for end in range(1, len(word) + 1)]
    assert ours == ldirectord(word, failures)


class TestFlapping:
    """One check a second; two falls within ten seconds are flapping."""

    CHECK = Check(failures=1, rises=2, flaps=2, flap_window=10.0)

    @pytest.mark.parametrize(
        ("word", "states"),
        [
            # The falls are at 2 and 5, so that the real may rise at 12 and not before.
            ("pfppf" + "pppppp" + "p", "udduddddddd" + "u"),
            # It needs its two rises then, too.
            ("pfppf" + "fffff" + "fpp", "uddud" + "ddddd" + "ddu"),
            # A third fall looks at the second and itself: 5 and 13, not within ten seconds of it after 15.
            ("pfppf" + "pppppp" + "pf" + "pp", "udduddddddd" + "ud" + "du"),
            # The first verdict is no fall: nothing fell.
            ("fppf" + "pp", "ddud" + "du"),
        ],
    )
    def test_a_real_that_fell_too_often_is_held_down(self, word: str, states: str) -> None:
        seen = "".join(run(word[:end], self.CHECK)[0].state[0] for end in range(1, len(word) + 1))
        assert seen == states

    def test_the_reason_says_so(self) -> None:
        health, _ = run("pfppfpp", self.CHECK)
        assert health.reason == "passes, but is held down: it fell 2 times within 10s"
        assert health.soft
        health, _ = run("pfppfppf", self.CHECK)
        assert health.reason == "refused"

    def test_without_flaps_nothing_is_remembered(self) -> None:
        assert run("pf" * 20, Check(failures=1))[0].falls_s == ()

    def test_a_reload_may_ask_for_another_number(self) -> None:
        health, _ = run("pfpfpf", Check(failures=1, flaps=3, flap_window=100.0))
        assert health.falls_s == (2.0, 4.0, 6.0)
        assert held_until_s(health, Check(flaps=2, flap_window=100.0)) == 104.0
        assert held_until_s(health, Check(flaps=4, flap_window=100.0)) == -math.inf
        assert held_until_s(health, Check(flaps=0)) == -math.inf

    @given(st.text("pf", max_size=80), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 20))
    def test_no_real_falls_more_often(self, word: str, failures: int, rises: int, flaps: int, window: int) -> None:
        """Whatever its checks say; and it rises as soon as that and its rises allow."""
        check = Check(failures=failures, rises=rises, flaps=flaps, flap_window=float(window))
        healths = [run(word[:end], check)[0] for end in range(len(word) + 1)]
        falls = [
            end for end in range(1, len(word) + 1) if [h.state for h in healths[end - 1 : end + 1]] == ["up", "down"]
        ]
        for first, last in zip(falls, falls[flaps:], strict=False):
            assert last - first >= window
        for end in range(1, len(word) + 1):
            if word[:end].endswith("p" * rises) and healths[end].state == "down":
                assert len([fall for fall in falls if end - window < fall <= end]) >= flaps


class TestWeights:
    def test_the_last_answer_that_passed_counts(self) -> None:
        check = Check(failures=2)
        health, _ = step(Health(), Outcome(True, "status 200", 0.1, 40), check, 1.0)
        assert health.weight == 40
        health, _ = step(health, FAIL, check, 2.0)
        assert (health.state, health.weight) == ("up", 40)
        health, _ = step(health, PASS, check, 3.0)
        assert health.weight is None


@pytest.mark.parametrize(("word", "was"), [("", "unknown"), ("p", "unknown"), ("pff", "up"), ("pffp", "down")])
def test_what_was_before_is_known(word: str, was: State) -> None:
    assert run(word, Check(failures=2))[0].was == was
