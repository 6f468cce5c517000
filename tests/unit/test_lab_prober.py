"""What counts as an outage."""

from __future__ import annotations

import pytest

from lb.lab.prober import longest_outage_s


@pytest.mark.parametrize(
    ("outcomes", "longest_s"),
    [
        ([], 0.0),
        ([(1.0, True), (1.01, True), (1.2, True)], 0.0),  # the prober was late, but nothing failed
        ([(1.0, True), (1.01, False), (1.02, True)], 0.02),
        ([(1.02, True), (1.01, False), (1.0, True)], 0.02),  # answers come in another order
        ([(1.0, True), (1.01, False), (1.03, True), (1.5, False), (1.52, False), (1.53, True)], 0.5),
        ([(1.0, False), (1.25, True)], 0.75),  # from the beginning
        ([(1.0, True), (1.25, False)], 2.0),  # to the end
    ],
)
def test_outages_are_around_failures(outcomes: list[tuple[float, bool]], longest_s: float) -> None:
    assert longest_outage_s(0.5, outcomes, 3.0) == pytest.approx(longest_s)
