"""Stories on the reference and on the real program, until so many packets or seconds: `python -m tests.packet.fuzz`.

Ends with what was reached, or with the shortest story found on which the two disagree.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
import time
from collections.abc import Iterator

import hypothesis
import structlog
from hypothesis import HealthCheck, Phase, given, settings

from lb.reference.stats import Outcome
from tests.packet.clock import Clock
from tests.packet.pair import UNREACHABLE, Pair
from tests.packet.steps import Step
from tests.packet.strategies import START, stories
from tests.packet.world import network_namespace

QUIET = settings(
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)
ROUND = 20
"""Stories between two looks at the clock."""


@contextlib.contextmanager
def pair_of_its_own() -> Iterator[Pair]:
    """In a namespace of its own; leaves nothing."""
    clock = Clock()
    with network_namespace(), clock.in_force():
        pair = Pair(clock, START)
        try:
            yield pair
        finally:
            pair.close()


def tell(pair: Pair, story: list[Step]) -> None:
    """One story from its beginning. Raises AssertionError at the first disagreement."""
    pair.reset()
    for step in story:
        step.run(pair)
        pair.check()
        pair.seen[f"step {type(step).__name__}"] += 1


def packets(pair: Pair) -> int:
    """Sent so far."""
    return sum(pair.seen[outcome.name] for outcome in Outcome)


def missing(pair: Pair) -> set[str]:
    """Outcomes that can be had and were not."""
    return {outcome.name for outcome in Outcome if not pair.seen[outcome.name]} - {o.name for o in UNREACHABLE}


def run(pair: Pair, examples: int, seed: int) -> None:
    """So many stories. Raises AssertionError with the shortest one that fails."""

    @hypothesis.seed(seed)
    @settings(QUIET, max_examples=examples)
    @given(stories)
    def check(story: list[Step]) -> None:
        tell(pair, story)

    check()


def main() -> int:
    """Arguments: a number of packets (100000), or of seconds (60s); then a seed, if a run is to be repeated."""
    limit, *more = [*sys.argv[1:], "100000"][: max(1, len(sys.argv) - 1)]
    first_seed = int(more[0]) if more else secrets.randbits(32)
    amount, in_seconds = int(limit.removesuffix("s")), limit.endswith("s")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    started, rounds = time.monotonic(), 0
    with pair_of_its_own() as pair:
        while (time.monotonic() - started if in_seconds else packets(pair)) < amount:
            try:
                run(pair, ROUND, first_seed + rounds)
            except AssertionError:
                print(f"disagreed in the round of seed {first_seed + rounds}: script/fuzz 1 {first_seed + rounds}")
                raise
            rounds += 1
        lost = missing(pair)
    for what, count in sorted(pair.seen.items()):
        print(f"{count:9}  {what}")
    seconds = time.monotonic() - started
    print(f"{packets(pair)} packets in {seconds:.0f} s, seed {first_seed}: reference and program agree on each")
    if lost:
        print(f"never reached: {', '.join(sorted(lost))}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
