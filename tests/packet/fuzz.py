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

import click
import hypothesis
import structlog
from hypothesis import HealthCheck, Phase, given, settings

from lb.reference.stats import Outcome
from tests.packet.clock import Clock
from tests.packet.pair import UNREACHABLE, Pair
from tests.packet.steps import Step
from tests.packet.strategies import START, stories
from tests.packet.world import INTERFACE, add_interface, network_namespace, on_cpu

QUIET = settings(
    deadline=None,
    database=None,
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)
SECOND = "lbt1"
ROUND = 20
"""Stories between two looks at the clock."""


@contextlib.contextmanager
def pair_of_its_own(several: bool = False) -> Iterator[Pair]:
    """In a namespace of its own; leaves nothing. several: the director has two interfaces.

    On one CPU: another may go on recalling a connection that finished until the tick ends, and not refer its segments.
    """
    clock = Clock()
    with network_namespace(), on_cpu(0), clock.in_force():
        if several:
            add_interface(SECOND, "02:00:00:00:00:11")
        pair = Pair(clock, START, (INTERFACE, SECOND) if several else (INTERFACE,))
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
    unreachable = UNREACHABLE if pair.configuration.others else UNREACHABLE | {Outcome.REDIRECTED}
    return {outcome.name for outcome in Outcome if not pair.seen[outcome.name]} - {o.name for o in unreachable}


def run(pair: Pair, examples: int, seed: int) -> None:
    """So many stories. Raises AssertionError (or what else went wrong) with the shortest one that fails."""

    @hypothesis.seed(seed)
    @settings(QUIET, max_examples=examples)
    @given(stories)
    def check(story: list[Step]) -> None:
        tell(pair, story)

    check()


def parse_limit(text: str) -> tuple[int, bool]:
    """A number, and whether it is one of seconds instead of packets. Raises click.BadParameter."""
    amount = text.removesuffix("s")
    if not amount.isdecimal():
        raise click.BadParameter(f"{text!r} is neither a number of packets, like 100000, nor of seconds, like 60s")
    return int(amount), amount != text


@click.command()
@click.argument("limit", default="100000", callback=lambda _context, _parameter, text: parse_limit(text))
@click.argument("seed", type=int, required=False)
def main(limit: tuple[int, bool], seed: int | None) -> None:
    """Run so many packets (100000), or for so many seconds (60s). SEED repeats an earlier run.

    With an odd one the director has two interfaces, with an even one a single one.
    """
    amount, in_seconds = limit
    first_seed = secrets.randbits(32) if seed is None else seed
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    started, rounds = time.monotonic(), 0
    with pair_of_its_own(several=first_seed % 2 == 1) as pair:
        while (time.monotonic() - started if in_seconds else packets(pair)) < amount:
            try:
                run(pair, ROUND, first_seed + rounds)
            except Exception:
                print(f"They disagree; to see it again: script/fuzz 1 {first_seed + rounds}")
                raise
            rounds += 1
        lost = missing(pair)
    for what, count in sorted(pair.seen.items()):
        print(f"{count:9}  {what}")
    seconds = time.monotonic() - started
    print(f"{packets(pair)} packets in {seconds:.0f} s, seed {first_seed}: reference and program agree on each")
    if lost:
        print(f"never reached: {', '.join(sorted(lost))}; run more packets, or add a strategy that gets there")
        sys.exit(1)


if __name__ == "__main__":
    main()
