"""Health checks: how many a second on one core, and what the state machine itself costs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from lb.health import Health, Outcome, step
from lb.model import Check
from lb.probes import Target, ask, open_tools
from lb.service import ServiceKey
from tests.servers import bad_certificate, free_port, nginx

REALS = 1000
"""Addresses of loopback behind which the one nginx answers."""
AT_ONCE = 50
CHECKS = 2000


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """A real nginx, on another core than ours where there is one."""
    directory = tmp_path_factory.mktemp("nginx")
    certificate, key = bad_certificate(directory)
    ports = {"http": free_port(), "https": free_port()}
    server = f"""server {{
        listen 0.0.0.0:{ports["http"]} backlog=4096; listen 0.0.0.0:{ports["https"]} ssl;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        location / {{ return 200 "<html>Test Page</html>"; }}
    }}"""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)  # inherited by nginx
    try:
        with nginx(directory, server, ports["http"]):
            os.sched_setaffinity(0, cores[:1])
            yield ports
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize(
    ("check", "port"),
    [
        (Check(type="negotiate", request="/ldirector.html", receive="Test Page", timeout=10.0), "http"),
        (Check(type="negotiate", service="https", receive="Test Page", timeout=10.0), "https"),
        (Check(type="connect", timeout=10.0), "http"),
        (Check(type="on"), "http"),
    ],
    ids=["http", "https", "connect", "on"],
)
def test_checks_a_second(benchmark: BenchmarkFixture, ports: dict[str, int], check: Check, port: str) -> None:
    """A round is CHECKS checks of REALS reals, AT_ONCE under way together; the rate is printed with the others."""
    service = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)
    targets = [Target(IPv4Address("127.0.1.0") + n, ports[port], check, service) for n in range(REALS)]

    async def worker(queue: Iterator[int], tools: Any) -> None:
        for number in queue:
            outcome = await ask(targets[number % REALS], tools)
            assert outcome.ok, outcome.reason

    async def round_of_checks() -> None:
        tools = open_tools()
        queue = iter(range(CHECKS))
        await asyncio.gather(*(worker(queue, tools) for _ in range(AT_ONCE)))
        await tools.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        benchmark.pedantic(lambda: runner.run(round_of_checks()), rounds=5, warmup_rounds=1)  # type: ignore[no-untyped-call]
    if benchmark.stats:  # not under --benchmark-disable
        benchmark.extra_info["checks_per_s"] = round(CHECKS / benchmark.stats.stats.median)


def test_steps_of_the_state_machine(benchmark: BenchmarkFixture) -> None:
    """A thousand outcomes, every seventh a failure."""
    check = Check(failures=3, rises=2)
    outcomes = [Outcome(n % 7 != 0, "status 200", 0.001) for n in range(1000)]

    def thousand() -> Health:
        health = Health()
        for second, outcome in enumerate(outcomes):
            health, _ = step(health, outcome, check, float(second))
        return health

    assert benchmark(thousand).state == "up"
