"""What a packet costs in the packet program, net nanoseconds on one core, beside a program that only swaps MACs.

Ten virtuals with ten reals each, as DESIGN section 8 compares them. The numbers are the kernel's, so the benchmarks run
on a clock that only `measured` moves. script/bench bench/test_xdp.py
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.testrun import TestRun, flows, frame6
from lb.addresses import Address
from lb.model import Connections
from lb.service import Destination, Service, ServiceKey
from tests.packet.world import INTERFACE, OUR_MAC, World, add_interface, network_namespace

PACKETS = 300_000
NEW = 50_000
ROUNDS = 15
FLOWS = [1, 1_000, 10_000, 100_000]
MACS = bytes.fromhex(OUR_MAC.replace(":", "")) + bytes.fromhex("020000000002")
VIRTUAL = IPv4Address("192.0.2.3")
SYN, ACK = 2, 16
TCP, UDP = 6, 17


class Clock:
    """Seconds that were measured so far."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def add(self, ns: float) -> None:
        """One packet's; noise may put a floor of 0.5 ns below nothing."""
        self.now_s += max(ns, 0.01) * 1e-9


CLOCK = Clock()
pytestmark = pytest.mark.benchmark(timer=CLOCK, group="packet")


@contextlib.contextmanager
def ten_by_ten(
    cache: bool = True,
    families: tuple[int, ...] = (4,),
    reached: Callable[[Destination], Destination] = lambda real: real,
    second: bool = False,
) -> Iterator[World]:
    """Ten virtuals of each family, ten reals each; on the last core, where timer interrupts and friends are fewest.

    reached: how each real is. second: the director has another interface.
    """
    cores = os.sched_getaffinity(0)
    with network_namespace():
        if second:
            add_interface("lbt1", "02:00:00:00:00:11")
        interfaces = (INTERFACE, "lbt1") if second else (INTERFACE,)
        world = World.open(f"test-bench-{os.getpid()}", Connections(), interfaces=interfaces)
        if not cache:
            world.data._cache_set_bits = 0
        try:
            os.sched_setaffinity(0, {max(cores)})
            services = (service for version in families for service in _services(_NETWORK[version]))
            world.apply(*(replace(s, destinations=tuple(map(reached, s.destinations))) for s in services))
            yield world
        finally:
            os.sched_setaffinity(0, cores)
            world.close()


_NETWORK: dict[int, Address] = {4: IPv4Address("192.0.2.0"), 6: IPv6Address("2001:db8::")}


def _services(network: Address) -> Iterator[Service]:
    reals = tuple(Destination(network + 100 + n, 1, bytes((2, 0, 0, 0, 1, n))) for n in range(10))
    keys = (ServiceKey(network + 1 + n, 80, (TCP, UDP)[n % 2 and n > 4]) for n in range(10))
    return (Service(key, "rr", reals) for key in keys)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """As configurations are."""
    with ten_by_ten() as world:
        yield world


def run(benchmark: BenchmarkFixture, test_run: TestRun, program_fd: int) -> None:
    """Benchmark one program; closes the run."""
    try:
        test_run.net_ns(program_fd, max(test_run.count, 1000))
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            lambda: CLOCK.add(test_run.net_ns(program_fd, PACKETS)), rounds=ROUNDS
        )
    finally:
        test_run.close()


def open_connections(world: World, count: int, protocol: int, virtual: Address) -> None:
    """In another order than they are used in, so that they do not lie in memory as they are looked up. Each gets its
    second packet at once: a table of half-open ones is for those that are on their way."""
    world.forget()
    pairs = list(zip(*(_flows(count, protocol, virtual, flags) for flags in (SYN, ACK)), strict=True))
    random.Random(count).shuffle(pairs)
    opening = TestRun([frame for pair in pairs for frame in pair])
    opening.gross_ns(world.data.program_fd, 2 * count)
    opening.close()
    world.events()
    assert len(world.entries(half_open=False)) == count


def _flows(count: int, protocol: int, virtual: Address, flags: int) -> list[bytes]:
    if virtual.version == 4:
        return flows(count, protocol, int(virtual), 80, flags, MACS)
    return flows(count, protocol, int(virtual), 80, flags, MACS, int(IPv6Address("2001:db8:c::1")), frame6)


@pytest.fixture(scope="module")
def mixed() -> Iterator[World]:
    """With as many virtuals of IPv6."""
    with ten_by_ten(families=(4, 6)) as world:
        yield world


@pytest.mark.parametrize("count", FLOWS)
@pytest.mark.parametrize("version", [6, 4])
def test_known_tcp_in_a_mixed_cluster(benchmark: BenchmarkFixture, mixed: World, version: int, count: int) -> None:
    virtual = _NETWORK[version] + 3
    open_connections(mixed, count, TCP, virtual)
    run(benchmark, TestRun(_flows(count, TCP, virtual, ACK)), mixed.data.program_fd)


@pytest.mark.parametrize("count", FLOWS)
def test_known_tcp(benchmark: BenchmarkFixture, world: World, count: int) -> None:
    open_connections(world, count, TCP, VIRTUAL)
    before = world.data.counters()["tx_packets"]
    run(benchmark, TestRun(flows(count, TCP, int(VIRTUAL), 80, ACK, MACS)), world.data.program_fd)
    assert world.data.counters()["tx_packets"] - before >= ROUNDS * PACKETS


@pytest.mark.parametrize("count", FLOWS)
def test_known_udp(benchmark: BenchmarkFixture, world: World, count: int) -> None:
    virtual = IPv4Address("192.0.2.10")
    open_connections(world, count, UDP, virtual)
    run(benchmark, TestRun(flows(count, UDP, int(virtual), 80, 0, MACS)), world.data.program_fd)


def test_new_connection(benchmark: BenchmarkFixture, world: World) -> None:
    """Its first packet, into a table with room."""
    test_run = TestRun(flows(NEW, TCP, int(VIRTUAL), 80, SYN, MACS))
    try:
        world.forget()
        before = world.data.counters()
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            lambda: CLOCK.add(test_run.net_ns(world.data.program_fd, NEW)), teardown=world.forget, rounds=ROUNDS
        )
        after = world.data.counters()
        assert after["events_lost"] == before["events_lost"]
        assert sum(d.connections for s in world.data.held() for d in s.destinations) >= ROUNDS * NEW
    finally:
        test_run.close()


def test_second_packet(benchmark: BenchmarkFixture, world: World) -> None:
    """The ACK that makes it whole, events and all."""
    first, second = (TestRun(flows(NEW, TCP, int(VIRTUAL), 80, flags, MACS)) for flags in (SYN, ACK))

    def prepare() -> None:
        world.forget()
        first.gross_ns(world.data.program_fd, NEW)

    try:
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            lambda: CLOCK.add(second.net_ns(world.data.program_fd, NEW)), setup=prepare, rounds=ROUNDS
        )
    finally:
        first.close()
        second.close()


def test_foreign(benchmark: BenchmarkFixture, world: World) -> None:
    foreign = flows(1_000, TCP, int(IPv4Address("198.51.100.1")), 80, ACK, MACS)
    run(benchmark, TestRun(foreign), world.data.program_fd)


def test_floor(benchmark: BenchmarkFixture, world: World) -> None:  # noqa: ARG001
    test_run = TestRun(flows(1_000, TCP, int(VIRTUAL), 80, ACK, MACS))
    run(benchmark, test_run, test_run.floor_fd)
