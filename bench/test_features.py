"""What each part of the packet program costs: the program without it, beside the whole one.

Parts are taken out of the text that is compiled; what is left need not be right, only fast. The cost of a part is the
whole's time less the time without it. script/bench bench/test_features.py
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.test_xdp import ACK, CLOCK, MACS, NEW, ROUNDS, SYN, TCP, VIRTUAL, open_connections, run, ten_by_ten
from bench.testrun import TestRun, flows
from lb.datapath import source
from lb.schedule import SCHEDULERS
from lb.service import Destination, Service, ServiceKey, Way
from tests.packet import frames
from tests.packet.world import World

Edit = tuple[str, str]

KNOWN: dict[str, Edit | None] = {
    "nothing": None,
    "the cache": None,
    "epochs": ("place.epoch = *(volatile __u32 *)&place.shared->number;", "place.epoch = 0;"),
    "outcomes' counters": ("\t\tmine->name++; \\\n", ""),
    "reals' counters": ("\t\tstats->packets++;\n\t\tstats->bytes += packet->length;\n", ""),
    "the interface's MAC": (" || !is_sent_to_us(packet->ethernet->destination)", ""),
    "VLAN tags": ("type = skip_tags(ethernet->type, &at, end);", "type = ethernet->type;"),
    "ICMP": (
        "	if (ip->protocol == IPPROTO_ICMP)\n		return parse_icmp(packet, at + header, end, length - header);\n",
        "",
    ),
    "fragments": ("if (ip->frag_off & be16(FRAGMENT)) {", "if (0) {"),
}
NEWCOMERS: dict[str, Edit | None] = {
    "nothing": None,
    "the cache": None,
    "the search before": ("found = find_entry(packet, key);\n\tif (!found)", "found = NULL;\n\tif (!found)"),
    "the search for it half-open": (
        "bool half_open = find_embryo(&crib, keys, newcomer->now_ns, &young);",
        "bool half_open = false;",
    ),
    "the entry": ("if (outcome != OURS || is_one_packet(newcomer->service))", "if (true)"),
    "the turn": (
        "real = table_slot(table, cursor++);\n\t\trequest->schedule->cursor = cursor;",
        "real = (__u32)table;",
    ),
}


def _ends(frame: bytes) -> frames.Ends:
    client, virtual, client_port, virtual_port = struct.unpack_from("!IIHH", frame, 26)
    return frames.Ends(frame[:6], client, virtual, client_port, virtual_port, TCP)


def _piece(frame: bytes, place: int) -> bytes:
    """One of two fragments of a segment; datagrams are told apart by the client's port."""
    ends = _ends(frame)
    return list(frames.fragments(ends, frames.Shape(flags=ACK, id=ends.client_port), 2, 3))[place]


KINDS: dict[str, Callable[[bytes], Sequence[bytes]]] = {
    "plain": lambda frame: (frame,),
    "in a VLAN": lambda frame: (frames.tagged(frame, 0x8100),),
    "in two VLANs": lambda frame: (frames.tagged(frame, 0x88A8, 0x8100),),
    "ICMP errors": lambda frame: (frames.error(_ends(frame), frames.PLAIN, 3, 4, 0x0A000001, 8),),
    "first fragments": lambda frame: (_piece(frame, 0),),
    "a first fragment and a later one in turn": lambda frame: (_piece(frame, 0), _piece(frame, 1)),
}
"""What a frame of a known connection becomes. Later fragments alone would outlive what is known of their first ones."""


WAY = Way(IPv4Address("192.0.2.200"), 1500, 7, bytes.fromhex("020000000077"))
WAY6, REAL6 = replace(WAY, source=IPv6Address("2001:db8::200")), IPv6Address("2001:db8::6000")
FORWARDS: dict[str, Callable[[Destination], Destination]] = {
    "gate": lambda real: real,
    "by another interface": lambda real: replace(real, way=WAY),
    "ipip": lambda real: replace(real, forward="ipip", way=WAY),
    "ipip over IPv6": lambda real: replace(real, address=REAL6 + int(real.address) % 256, forward="ipip", way=WAY6),
}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[Edit | None], None]:
    """Compile programs without something."""
    whole = source.program_text

    def take_out(edit: Edit | None) -> None:
        def text(*arguments: object) -> str:
            made = whole(*arguments)  # type: ignore[arg-type]
            if edit is None:
                return made
            assert edit[0] in made, "the packet program has changed: change this benchmark"
            return made.replace(*edit)

        monkeypatch.setattr(source, "program_text", text)

    return take_out


@pytest.mark.benchmark(timer=CLOCK, group="1,000 known connections, without")
@pytest.mark.parametrize("part", KNOWN)
def test_known(benchmark: BenchmarkFixture, without: Callable[[Edit | None], None], part: str) -> None:
    without(KNOWN[part])
    with ten_by_ten(cache=part != "the cache") as world:
        open_connections(world, 1_000, TCP, VIRTUAL)
        run(benchmark, TestRun(flows(1_000, TCP, int(VIRTUAL), 80, ACK, MACS)), world.data.program_fd)


@pytest.mark.benchmark(timer=CLOCK, group="1,000 known connections, forwarded by")
@pytest.mark.parametrize("forward", FORWARDS)
def test_forward(benchmark: BenchmarkFixture, forward: str) -> None:
    """The whole program each time: these are no parts to be taken out."""
    with ten_by_ten(reached=FORWARDS[forward], second=forward == "by another interface") as world:
        open_connections(world, 1_000, TCP, VIRTUAL)
        test_run = TestRun(flows(1_000, TCP, int(VIRTUAL), 80, ACK, MACS), grows=forward.startswith("ipip"))
        run(benchmark, test_run, world.data.program_fd)


@pytest.mark.benchmark(timer=CLOCK, group="packets of 1,000 known connections")
@pytest.mark.parametrize("kind", KINDS)
def test_kind(benchmark: BenchmarkFixture, kind: str) -> None:
    with ten_by_ten() as world:
        open_connections(world, 1_000, TCP, VIRTUAL)
        plain = flows(1_000, TCP, int(VIRTUAL), 80, ACK, MACS)
        run(benchmark, TestRun([made for frame in plain for made in KINDS[kind](frame)]), world.data.program_fd)


@pytest.mark.benchmark(timer=CLOCK, group="new connections, persistent")
@pytest.mark.parametrize("persistent_s", [0, 300])
@pytest.mark.parametrize("clients", ["one client", "as many clients"])
def test_persistent(benchmark: BenchmarkFixture, persistent_s: int, clients: str) -> None:
    """Of one client all but the first follow his template; of as many each one makes his own."""
    reals = tuple(Destination(IPv4Address("192.0.2.100") + n, 1, bytes((2, 0, 0, 0, 1, n))) for n in range(10))
    opening = flows(NEW, TCP, int(VIRTUAL), 80, SYN, MACS)
    if clients != "one client":
        opening = [frame[:26] + (0x0A000001 + n).to_bytes(4, "big") + frame[30:] for n, frame in enumerate(opening)]
    with ten_by_ten() as world:
        world.apply(Service(ServiceKey(VIRTUAL, 80, TCP), "rr", reals, persistent_s=persistent_s))
        _open_new(benchmark, world, opening)


@pytest.mark.benchmark(timer=CLOCK, group="new connections, without")
@pytest.mark.parametrize("part", NEWCOMERS)
def test_new(benchmark: BenchmarkFixture, without: Callable[[Edit | None], None], part: str) -> None:
    without(NEWCOMERS[part])
    with ten_by_ten(cache=part != "the cache") as world:
        _open_new(benchmark, world)


@pytest.mark.benchmark(timer=CLOCK, group="new connections, scheduler and reals")
@pytest.mark.parametrize("count", [10, 100])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler(benchmark: BenchmarkFixture, name: str, count: int) -> None:
    """Weights are high, so that no real is full for ovf."""
    reals = tuple(Destination(IPv4Address("192.0.2.100") + n, 10_000, bytes((2, 0, 0, 0, 1, n))) for n in range(count))
    with ten_by_ten() as world:
        world.apply(Service(ServiceKey(VIRTUAL, 80, TCP), name, reals))
        _open_new(benchmark, world)


def _open_new(benchmark: BenchmarkFixture, world: World, opening: Sequence[bytes] = ()) -> None:
    test_run = TestRun(opening or flows(NEW, TCP, int(VIRTUAL), 80, SYN, MACS))
    try:
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            lambda: CLOCK.add(test_run.net_ns(world.data.program_fd, NEW)), teardown=world.forget, rounds=ROUNDS
        )
    finally:
        test_run.close()
