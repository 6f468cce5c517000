"""With the cache compiled in and without it the same happens: verdicts, bytes, table, counters and events, whatever
packets come in, on whichever CPU, and whatever is done to connections and reals meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb import abi
from lb.tcp import TIMEOUTS_S
from tests.packet import world as packets
from tests.packet.test_exchange import row
from tests.packet.world import NODE, World, add_interface, ageless, on_cpu, real

Pair = tuple[World, World]
Step = tuple[Any, ...]

tcp = functools.cache(packets.tcp)
udp = functools.cache(packets.udp)

CPUS = st.integers(0, 1)
PORTS = st.integers(1, 4)
NUMBERS = st.integers(1, 4)
SEGMENTS = st.tuples(st.just("tcp"), CPUS, PORTS, st.sampled_from(["S", "A", "PA", "FA", "R", "SA", "SR", "U", "FR"]))
OPEN = st.tuples(st.just("open"), CPUS, PORTS)
DATAGRAMS = st.tuples(st.just("udp"), CPUS, PORTS)
REALS = st.tuples(st.just("reals"), st.dictionaries(NUMBERS, st.integers(0, 2), max_size=3))
ROWS = st.tuples(st.just("install"), PORTS, NUMBERS, st.sampled_from([*TIMEOUTS_S]))
AGES = st.tuples(st.just("age"), st.sampled_from([5, 30, 75, 200, 400, 1000]))
SWEEPS = st.tuples(st.just("sweep"))
STEPS = st.lists(SEGMENTS | SEGMENTS | OPEN | DATAGRAMS | REALS | ROWS | AGES | SWEEPS, max_size=80)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """One as it is, one without a cache, on two interfaces with one MAC."""
    add_interface("lbt1")
    worlds = World.open(), World.open(f"{NODE}.plain", interfaces=["lbt1"])
    try:
        worlds[1].data._cache_set_bits = 0
        for world in worlds:
            world.apply_reals(real(1), real(2))
        yield worlds
    finally:
        for world in worlds:
            world.close()


def carry_out(world: World, step: Step) -> Any:
    """One step, and what it shows."""
    match step:
        case "tcp", cpu, port, flags:
            with on_cpu(cpu):
                return world.send(tcp(flags, port))
        case "open", cpu, port:
            with on_cpu(cpu):
                return [world.send(tcp(flags, port)) for flags in ("S", "A", "A")]
        case "udp", cpu, port:
            with on_cpu(cpu):
                return world.send(udp(port))
        case "reals", weights:
            return world.apply_reals(*(real(number, weight) for number, weight in weights.items()))
        case "install", port, number, state:
            return world.data.install(row(port, real(number).address, state=state))
        case "age", seconds:
            return world.age(abi.ticks(seconds))
        case _:
            return world.data.sweep()


def totals(world: World) -> dict[str, int]:
    """All that is counted."""
    return world.data.counters() | {str(key): sum(found) for key, found in world.data.totals().items()}


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_with_and_without(pair: Pair, steps: list[Step]) -> None:
    for world in pair:
        world.apply_reals(real(1), real(2))
        world.forget()
    for step in steps:
        quick, plain = (carry_out(world, step) for world in pair)
        assert quick == plain, step
    quick_rows, plain_rows = (np.sort(world.rows()) for world in pair)
    assert ageless(quick_rows) == ageless(plain_rows)
    assert np.abs(quick_rows["idle_s"].astype(int) - plain_rows["idle_s"]).max(initial=0) <= 3
    assert totals(pair[0]) == totals(pair[1])
    assert ageless(pair[0].events()) == ageless(pair[1].events())
