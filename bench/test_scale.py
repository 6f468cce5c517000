"""Health checks of very many reals: how late they come, whether heartbeats do, and how much memory they take.

One core for the checks and one for the nginx that answers at every address of loopback, both before other processes of
the machine. The checks are the director's own, by its own timers; beside them runs
what a heartbeat needs of the loop, a timer every 100 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Coroutine, Iterator
from ipaddress import IPv4Address
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from lb.checker import Checker, TargetKey, _Slot
from lb.daemon import GARBAGE_THRESHOLD
from lb.model import Check
from lb.probes import Target
from lb.service import ServiceKey
from tests.servers import free_port, nginx, until

REALS = 10_000
INTERVAL_S = 2.0
MEASURED_S = 10.0
KEEPALIVE_S = 0.1
T = TypeVar("T")
VIRTUAL = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real nginx at all addresses of loopback, on another core than ours where there is one."""
    number = free_port()
    page = 'location / { default_type text/html; return 200 "<html>Test Page</html>"; }'
    server = f"server {{ listen 0.0.0.0:{number} backlog=4096; {page} }}"
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as running:
        running.callback(os.sched_setaffinity, 0, cores)
        os.sched_setaffinity(0, cores[1:] or cores)
        with favoured():  # inherited, as the core is
            running.enter_context(nginx(tmp_path_factory.mktemp("nginx"), server, number))
        os.sched_setaffinity(0, cores[:1])
        yield number


@contextlib.contextmanager
def favoured() -> Iterator[None]:
    """Before all neighbours on this machine, and yet not before the kernel's own threads, which deliver packets."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, -15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def targets(port: int, check: Check) -> dict[TargetKey, Target]:
    """Reals at 127.1.0.0 and what follows."""
    addresses = [IPv4Address("127.1.0.0") + number for number in range(REALS)]
    return {(VIRTUAL, address): Target(address, port, check, VIRTUAL) for address in addresses}


class Timed(Checker):
    """Notes how late each check begins, seconds."""

    def __init__(self) -> None:
        super().__init__(lambda _key, _health, _change: None)
        self.late: list[float] = []

    def _due(self, slot: _Slot, now_s: float) -> None:
        self.late.append(now_s - slot.due_s)
        super()._due(slot, now_s)


async def heartbeats(late: list[float]) -> None:
    """A timer as a heartbeat's; notes how late each comes, seconds."""
    due_s = time.monotonic()
    while True:
        due_s += KEEPALIVE_S
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        late.append(time.monotonic() - due_s)


def _as_the_director(main: Coroutine[Any, Any, T]) -> T:
    """Run it as `lb.daemon` runs a director."""
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
    return uvloop.run(main)


async def lateness(port: int, check: Check) -> tuple[list[float], list[float]]:
    """Of the checks and of the heartbeats, over MEASURED_S, once all reals are known."""
    checker, beats = Timed(), list[float]()
    beating = asyncio.create_task(heartbeats(beats))
    try:
        checker.configure(targets(port, check))
        async with asyncio.timeout(60.0):
            while any(health.state == "unknown" for health in checker.snapshot().values()):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        gc.collect()
        gc.freeze()
        await asyncio.sleep(INTERVAL_S)
        checker.late.clear()
        beats.clear()
        await asyncio.sleep(MEASURED_S)
        return checker.late, beats
    finally:
        gc.unfreeze()
        beating.cancel()
        await checker.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["http", "connect"])
def test_lateness_of_ten_thousand(benchmark: BenchmarkFixture, port: int, kind: str) -> None:
    """One round; the numbers are in the extra columns."""
    check = Check(interval=INTERVAL_S, timeout=1.0)
    if kind == "http":
        check = Check(type="negotiate", receive="Test Page", interval=INTERVAL_S, timeout=1.0)
    with favoured():
        checks, beats = benchmark.pedantic(lambda: _as_the_director(lateness(port, check)), rounds=1)  # type: ignore[no-untyped-call]
    for name, late in (("checks", checks), ("heartbeats", beats)):
        worst = {f"{name}_late_p{p}_ms": round(1000 * float(np.percentile(late, p)), 1) for p in (50, 99, 100)}
        benchmark.extra_info |= {name: len(late), **worst}
    print(f"\n{kind}: {benchmark.extra_info}")
    assert len(checks) > 0.9 * REALS * MEASURED_S / INTERVAL_S


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _grown(port: int) -> int:
    """How many bytes this process grows by while it checks all of them twice."""

    async def main() -> int:
        checker = Timed()
        gc.collect()
        before = _resident()
        checker.configure(targets(port, Check(type="negotiate", receive="Test Page", interval=5.0, timeout=4.0)))
        await until(lambda: len(checker.late) >= 2 * REALS, 120.0)
        grown = _resident() - before
        await checker.close()
        return grown

    with favoured():
        return _as_the_director(main())


@pytest.mark.timeout(300)
def test_memory_of_ten_thousand(benchmark: BenchmarkFixture, port: int) -> None:
    """In a process of its own, so that nothing is counted that was there before."""
    with get_context("spawn").Pool(1) as pool:
        grown = benchmark.pedantic(lambda: pool.apply(_grown, (port,)), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["MiB"] = round(grown / 2**20, 1)
    print(f"\n{grown / 2**20:.1f} MiB, {grown / REALS:.0f} bytes a real")
