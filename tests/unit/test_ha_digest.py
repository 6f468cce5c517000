"""Tables compared by the sums of their buckets."""

from __future__ import annotations

import numpy as np
import pytest

from ha import digest
from lb.connections import CONNECTION, CONNECTION6
from tests.unit.test_ha_sync import some_rows


def test_the_same_rows_in_any_order_have_the_same_sums() -> None:
    rows = some_rows(1000)
    assert digest.sums([rows]) == digest.sums([rows[500:][::-1], rows[:500]])


def test_how_long_they_were_idle_does_not_matter() -> None:
    rows = some_rows(1000)
    older = rows.copy()
    older["idle_s"] += 7
    assert digest.sums([rows]) == digest.sums([older])


@pytest.mark.parametrize("column", ["client", "virtual", "real", "client_port", "virtual_port", "protocol", "state"])
@pytest.mark.parametrize("kind", [CONNECTION, CONNECTION6], ids=["IPv4", "IPv6"])
def test_any_other_difference_does(kind: np.dtype[np.void], column: str) -> None:
    ours = np.zeros(100, kind)
    ours["client_port"] = np.arange(100)
    theirs = ours.copy()
    theirs[column][50] ^= 1
    wanted = digest.differing(digest.sums([ours]), digest.sums([theirs]))
    assert ours[50] in digest.within(ours, wanted)
    assert len(digest.within(ours, wanted)) < 5


def test_a_row_that_is_missing_is_found_among_many() -> None:
    rows = some_rows(50_000)
    wanted = digest.differing(digest.sums([rows]), digest.sums([np.delete(rows, [7, 40_000])]))
    found = digest.within(rows, wanted)
    assert {rows[7].tobytes(), rows[40_000].tobytes()} <= {row.tobytes() for row in found}
    assert len(found) < 50


def test_buckets_are_filled_evenly() -> None:
    rows = some_rows(100_000)
    counts = np.bincount(digest.buckets_of(digest._keys(rows)), minlength=digest.BUCKETS)
    assert counts.max() < 40


def test_nothing_at_all() -> None:
    assert digest.sums([]) == digest.sums([some_rows(0)]) == bytes(digest.BUCKETS * 8)


@pytest.mark.parametrize("data", [b"", bytes(digest.BUCKETS)])
def test_what_are_no_sums_or_bits(data: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        digest.differing(digest.sums([]), data)
    with pytest.raises(ValueError, match="bits"):
        digest.within(some_rows(1), data)
