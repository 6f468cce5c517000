"""The program does what its specification says: what Hypothesis thinks of, and the stories in which it once did not.

`script/fuzz` goes on where this stops.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.datapath import source
from lb.datapath.source import Configuration
from tests.packet import fuzz
from tests.packet.pair import Pair
from tests.packet.steps import Elapse, Life, Target

STORIES = 12
SEED = 3


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with fuzz.pair_of_its_own() as made:
        yield made


def test_stories(pair: Pair) -> None:
    """The same ones in each run, so that only a change can break it; every outcome is among them."""
    fuzz.run(pair, STORIES, SEED)
    assert not fuzz.missing(pair)


BREAKS = {
    "bytes": ("__builtin_memcpy(ethernet->source, ethernet->destination, sizeof(ethernet->source));", ""),
    "a counter": ("mine->name++;", ""),
    "an event": ("if (tell)\n\t\ttell_event", "if (!tell)\n\t\ttell_event"),
    "an entry": ("if (tell)\n\t\tknown->synced_t = now_t;", ""),
    "a total": ("stats->connections++;", ""),
}


@pytest.mark.parametrize(("right", "wrong"), BREAKS.values(), ids=BREAKS)
def test_a_program_that_differs_is_found_out(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    """In each of the things that are compared. Without this, a comparison that compares nothing would pass."""
    whole = source.program_text

    def broken(configuration: Configuration, directory: Path) -> str:
        text = whole(configuration, directory)
        assert text.count(right) == 1
        return text.replace(right, wrong)

    monkeypatch.setattr(source, "program_text", broken)
    with fuzz.pair_of_its_own() as pair, pytest.raises(AssertionError, match="reference:"):
        fuzz.tell(pair, [Life(Target(), (2,)), Elapse(1), Life(Target(), (16,))])
