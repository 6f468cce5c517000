"""Runs of the simulation until so many, or so many seconds: `script/fuzz failover`. Prints the first that breaks."""

from __future__ import annotations

import secrets
import sys
import time

import click

from tests.packet.fuzz import parse_limit
from tests.unit.simulation.run import run


@click.command()
@click.argument("limit", default="1000", callback=lambda _context, _parameter, text: parse_limit(text))
@click.argument("seed", type=int, required=False)
def main(limit: tuple[int, bool], seed: int | None) -> None:
    """Run so many (1000), or for so many seconds (60s). SEED repeats an earlier run, and prints its story."""
    amount, in_seconds = limit
    first = secrets.randbits(32) if seed is None else seed
    started, done, opened, lost, together_s, vacant_s = time.monotonic(), 0, 0, 0, 0.0, 0.0
    while (time.monotonic() - started if in_seconds else done) < amount:
        result = run(first + done)
        done, opened, lost = done + 1, opened + result.opened, lost + result.lost
        together_s, vacant_s = max(together_s, result.together_s), max(vacant_s, result.vacant_s)
        if result.broken or (seed is not None and amount == 1):
            print("\n".join(result.story))
        if result.broken:
            print(f"{result.broken}\nto see it again: script/fuzz failover 1 {result.seed}")
            sys.exit(1)
    seconds = time.monotonic() - started
    print(f"{done} clusters in {seconds:.0f} s from seed {first}: every invariant held")
    print(f"two actives that hear each other: {together_s:.2f} s at most; nobody active: {vacant_s:.2f} s at most")
    print(f"{opened} connections, {lost} of them lost to what befell the cluster; none went to two reals")


if __name__ == "__main__":
    main()
