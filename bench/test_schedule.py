"""Building the schedulers' tables: what a change of health costs a service of a hundred reals."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lb.schedule import SCHEDULERS, plan_of
from lb.schedule.maglev import maglev
from lb.service import Destination, Service, ServiceKey

KEY = ServiceKey(IPv4Address("192.0.2.10"), 80, 6)
REALS = tuple(
    Destination(IPv4Address("10.0.0.1") + n, 0 if n == 7 else 1 + n % 5, b"\2\0\0\0\0\1", 1 + n % 5) for n in range(100)
)

pytestmark = pytest.mark.benchmark(group="tables")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_table_after_a_change_of_health(benchmark: BenchmarkFixture, name: str) -> None:
    plan = benchmark(lambda: plan_of(Service(KEY, name, REALS)))
    assert 7 not in plan.table


def test_maglev_from_scratch(benchmark: BenchmarkFixture) -> None:
    names, turns = tuple(real.address.packed for real in REALS), tuple(real.share or 1 for real in REALS)
    assert len(set(benchmark(lambda: maglev.__wrapped__(names, turns)))) == 100
