"""Who gets how much: health against the weights that are wanted, `min_up`, slow starts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.health import Health, State
from lb.model import Virtual
from lb.weights import STEPS, WEIGHT_MAX, Standing, standing, starts_slowly

STATES: dict[str, State] = {"u": "up", "d": "down", "?": "unknown"}


def virtual(**keys: Any) -> Virtual:
    return Virtual.model_validate({"name": "web", "address": "10.0.0.9", "port": 80, "scheduler": "wrr", **keys})


def stand(states: str, ordered: list[int] | None = None, now_s: float = 0.0, **keys: Any) -> Standing:
    """Reals in these states: u, d or ?."""
    healths = [Health(STATES[letter]) for letter in states]
    return standing(virtual(**keys), healths, ordered or [1] * len(states), now_s)


def test_only_who_is_up_gets_anything() -> None:
    assert stand("ud?u", [1, 2, 3, 4]) == Standing((1, 0, 0, 4), settled=False)
    assert stand("du") == Standing((0, 1))
    assert not stand("dd").served
    assert stand("") == Standing(())


class TestMinUp:
    @pytest.mark.parametrize(
        ("states", "min_up", "weights"),
        [
            ("uudd", 2, (1, 1, 0, 0)),
            ("uddd", 2, (1, 1, 1, 1)),
            ("dddd", 1, (1, 1, 1, 1)),
            ("dddd", 0, (0, 0, 0, 0)),
            ("uddd", "25%", (1, 0, 0, 0)),
            ("uddd", "26%", (1, 1, 1, 1)),
            ("dddd", "0%", (0, 0, 0, 0)),
            ("uddd", 9, (1, 1, 1, 1)),
            ("uuuu", 9, (1, 1, 1, 1)),
            ("??dd", 2, (0, 0, 0, 0)),  # who was not asked yet is not out
            ("?ddd", 2, (0, 1, 1, 1)),  # nor given anything
        ],
    )
    def test_below_it_health_is_overruled(self, states: str, min_up: int | str, weights: tuple[int, ...]) -> None:
        found = stand(states, min_up=min_up)
        assert found.weights == weights
        assert found.overruled == (weights != tuple(int(letter == "u") for letter in states))

    def test_who_is_drained_counts_for_neither_side(self) -> None:
        assert stand("uddd", [1, 0, 0, 1], min_up="50%").weights == (1, 0, 0, 0)
        assert stand("uddd", [0, 0, 1, 1], min_up="50%").weights == (0, 0, 1, 1)

    def test_a_fallback_serves_while_nobody_is_up(self) -> None:
        assert stand("ddd", min_up=2, fallback="127.0.0.1") == Standing((0, 0, 0))
        assert stand("udd", min_up=2, fallback="127.0.0.1") == Standing((1, 1, 1), overruled=True)

    def test_off_is_an_order(self) -> None:
        assert stand("dd", min_up=1, check={"type": "off"}) == Standing((0, 0))


class TestSlowStart:
    @pytest.mark.parametrize(
        ("after_s", "weights", "next_s"),
        [
            (0.0, (10, 1), 103.0),
            (2.9, (10, 1), 103.0),
            (3.0, (10, 2), 106.0),
            (26.0, (10, 9), 127.0),
            (27.0, (1, 1), None),
            (300.0, (1, 1), None),
        ],
    )
    def test_a_real_that_rose_gets_a_tenth_more_with_each_tenth_of_the_time(
        self, after_s: float, weights: tuple[int, ...], next_s: float | None
    ) -> None:
        healths = [Health("up"), Health("up", 100.0, was="down")]
        found = standing(virtual(slow_start="30s"), healths, [1, 1], 100.0 + after_s)
        assert (found.weights, found.next_s) == (weights, next_s and pytest.approx(next_s))

    def test_who_is_new_to_the_director_starts_at_once(self) -> None:
        assert standing(virtual(slow_start="30s"), [Health("up", 0.0)], [3], 0.0) == Standing((3,))

    def test_without_it_everybody_does(self) -> None:
        assert standing(virtual(), [Health("up", 0.0, was="down")], [3], 0.0) == Standing((3,))

    def test_large_weights_need_no_scale(self) -> None:
        healths = [Health("up"), Health("up", 0.0, was="down")]
        assert standing(virtual(slow_start="10s"), healths, [60000, 5], 0.0).weights == (60000, 1)

    def test_a_drained_real_stays_so(self) -> None:
        assert standing(virtual(slow_start="10s"), [Health("up", 0.0, was="down")], [0], 0.0).weights == (0,)

    @given(
        st.floats(0.001, 86400),
        st.floats(0, 1e6),
        st.lists(st.tuples(st.integers(0, WEIGHT_MAX), st.sampled_from(["unknown", "down"])), min_size=1, max_size=5),
    )
    def test_every_step_ends(self, slow_start_s: float, since_s: float, reals: list[tuple[int, State]]) -> None:
        """Looking again at `next_s` finds the next step, ten of them at most, and weights that never shrink against
        those who are whole."""
        slow = virtual(slow_start=slow_start_s)
        healths = [Health("up", since_s, was=was) for _, was in reals]
        ordered = [weight for weight, _ in reals]
        now_s, steps = since_s, 0
        while (found := standing(slow, healths, ordered, now_s)).next_s is not None:
            assert found.next_s > now_s
            assert all(0 <= weight <= WEIGHT_MAX for weight in found.weights)
            assert [bool(weight) for weight in found.weights] == [bool(weight) for weight in ordered]
            now_s, steps = found.next_s, steps + 1
            assert steps < STEPS
        assert found.weights == tuple(ordered)
        assert not any(starts_slowly(slow, health, now_s) for health in healths)
