"""What counts as an outage."""

from __future__ import annotations

import pytest

from lb.lab.prober import outages_s


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        ([], []),
        ([(1.0, True), (1.01, True), (1.2, True)], []),  # the prober was late, but nothing failed
        ([(1.0, True), (1.01, False), (1.02, True)], [(1.0, 0.02)]),
        ([(1.02, True), (1.01, False), (1.0, True)], [(1.0, 0.02)]),  # answers come in another order
        (
            [(1.0, True), (1.01, False), (1.03, True), (1.5, False), (1.52, False), (1.53, True)],
            [(1.0, 0.03), (1.03, 0.5)],
        ),
        ([(1.0, False), (1.25, True)], [(0.5, 0.75)]),  # from the beginning
        ([(1.0, True), (1.25, False)], [(1.0, 2.0)]),  # to the end
    ],
)
def test_outages_are_around_failures(outcomes: list[tuple[float, bool]], found: list[tuple[float, float]]) -> None:
    assert [pytest.approx(outage) for outage in outages_s(0.5, outcomes, 3.0)] == found
