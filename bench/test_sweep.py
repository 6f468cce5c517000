"""What sweeping a million connections takes of one core. script/bench bench/test_sweep.py"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lb.connections import CONNECTION
from lb.director import SWEEP_INTERVAL_S, SWEEP_SHARE
from lb.model import Connections
from lb.service import Service
from lb.tcp import State
from tests.packet.world import TCP_KEY, VIRTUAL, World, network_namespace, real

COUNT = 1_000_000
PORTS = 50_000

pytestmark = pytest.mark.benchmark(timer=time.process_time, group="sweep")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """With COUNT connections to ten reals, counted for their scheduler."""
    with network_namespace():
        world = World.open(f"test-bench-{os.getpid()}", Connections())
        try:
            world.apply(Service(TCP_KEY, "wlc", tuple(real(number) for number in range(1, 11))))
            rows = np.zeros(COUNT, CONNECTION)
            numbers = np.arange(COUNT)
            rows["client"], rows["client_port"] = 0x0A000000 + numbers // PORTS, 1024 + numbers % PORTS
            rows["virtual"], rows["virtual_port"], rows["protocol"] = int(VIRTUAL), 80, 6
            rows["real"], rows["state"] = int(real(1).address) + numbers % 10, State.ESTABLISHED
            assert world.data.install(rows) == (COUNT, 0)
            yield world
        finally:
            world.close()


def test_sweep(benchmark: BenchmarkFixture, world: World) -> None:
    swept = benchmark.pedantic(world.data.sweep, rounds=10, warmup_rounds=1)  # type: ignore[no-untyped-call]
    assert swept.live == COUNT
    assert benchmark.stats is not None
    cost_s = benchmark.stats.stats.median
    period_s = max(SWEEP_INTERVAL_S, cost_s / SWEEP_SHARE)
    print(f"\nswept every {period_s:.1f} s: {cost_s / period_s:.1%} of a core")
