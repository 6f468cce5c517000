"""The program does what its specification says: what Hypothesis thinks of, and the stories in which it once did not.

`script/fuzz` goes on where this stops.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.packet import fuzz
from tests.packet.pair import Pair

STORIES = 12
SEED = 1


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with fuzz.pair_of_its_own() as made:
        yield made


def test_stories(pair: Pair) -> None:
    """The same ones in each run, so that only a change can break it; every outcome is among them."""
    fuzz.run(pair, STORIES, SEED)
    assert not fuzz.missing(pair)
