"""What a CPU knows by heart (bpf/cache.h): when the table is not asked, and that it always is when it must be.

The probe: a test changes the connection table behind everybody's back, without raising an epoch. A packet that still
goes to the connection's first real was answered by heart; one that goes to the other asked the table.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import pytest

from lb import abi
from lb.abi import Array
from lb.tcp import REUSABLE, SETTLED, State, next_state
from tests.packet.test_connections import EVERY_FLAGS, letters
from tests.packet.test_exchange import row
from tests.packet.world import CPUS, SETTINGS, World, gated, mac_of, on_cpu, real, udp
from tests.packet.world import tcp as make_tcp

TICK_NS = 1 << abi.TICK_SHIFT


tcp = functools.cache(make_tcp)
"""Scapy takes its time, of which a tick has little."""


def await_a_young_tick(ports: Iterable[int] = ()) -> None:
    """More than half of the current tick is left, so that what follows lies within it. The ports' frames are made."""
    for port in ports:
        for flags in ("S", "A"):
            tcp(flags, port)
    while time.monotonic_ns() % TICK_NS > TICK_NS // 2:
        time.sleep(0.01)


Result = TypeVar("Result")


def within_a_tick(show: Callable[[], Result], ports: Iterable[int] = ()) -> Result:
    """What it shows when all of it lies within one tick: on a busy machine, not always at the first try."""
    for _ in range(10):
        await_a_young_tick(ports)
        began_ns = time.monotonic_ns()
        result = show()
        if time.monotonic_ns() >> abi.TICK_SHIFT == began_ns >> abi.TICK_SHIFT:
            return result
    raise AssertionError("ten times it took too long")


@pytest.fixture(autouse=True)
def one_cpu() -> Iterator[None]:
    """Each has a cache of its own."""
    with on_cpu(0):
        yield


@pytest.fixture
def quick(world: World) -> Iterator[World]:
    """Real 1 has all connections; real 2 takes no new one. Everything the test does is within a tick."""
    await_a_young_tick()
    started_ns = time.monotonic_ns()
    world.apply_reals(real(1), real(2, weight=0))
    yield world
    assert time.monotonic_ns() - started_ns < TICK_NS // 2, "too slow for what it wants to show"


def row_of(world: World, number: int, port: int) -> int:
    """Where in `reals` a real of the service at this port is."""
    rows = world.maps["reals"].read()
    mine = (
        (rows["flags"] != 0)
        & (rows["address"] == abi.words(real(number).address)).all(axis=1)
        & (rows["virtual_port"] == port)
    )
    (index,) = np.flatnonzero(mine).tolist()
    assert isinstance(index, int)
    return index


def deceive(world: World, **fields: int) -> None:
    """Change every entry of the tables, and tell nobody. By default, its real becomes real 2 of the same service."""
    opened = world.maps["connections"]
    for keys, values in opened.batches():
        _deceive(world, keys, values, fields)
        opened.update(keys, values)
    for young in world.embryos():
        for places, entries in young.batches():
            _deceive(world, entries["key"], entries, fields)
            young.write(places, entries)


def _deceive(world: World, keys: Array, values: Array, fields: dict[str, int]) -> None:
    for port in np.unique(keys["virtual_port"]).tolist() if not fields else ():
        values["real"][keys["virtual_port"] == port] = row_of(world, 2, port)
    for name, number in fields.items():
        values[name] = number


def by_heart(world: World, frame: bytes) -> bool:
    """Was it answered without the table? Only after `deceive`."""
    home = world.real_of(frame)
    assert home in (1, 2)
    return home == 1


def establish(world: World, port: int = 1000) -> None:
    """A connection whose line is written: by the packet after the one that opened it."""
    for flags in ("S", "A"):
        assert world.real_of(tcp(flags, port)) == 1


@pytest.mark.parametrize("frame", [tcp("A"), tcp("PA"), tcp("UA"), tcp("AEC")], ids=["A", "PA", "UA", "AEC"])
def test_data_and_acks_are_answered_by_heart(quick: World, frame: bytes) -> None:
    establish(quick)
    deceive(quick)
    assert by_heart(quick, frame)


def test_datagrams_are_answered_by_heart(quick: World) -> None:
    assert {quick.real_of(udp()) for _ in range(2)} == {1}
    deceive(quick)
    assert by_heart(quick, udp())


def test_the_first_packet_writes_no_line(quick: World) -> None:
    """A flood of first packets leaves what is remembered alone."""
    assert quick.real_of(udp()) == 1
    deceive(quick)
    assert not by_heart(quick, udp())


@pytest.mark.parametrize("flags", [f for f in EVERY_FLAGS if f & 0x07 or not f & 0x10], ids=letters)
def test_what_may_change_the_state_asks_the_table(quick: World, flags: int) -> None:
    establish(quick)
    deceive(quick)
    assert not by_heart(quick, tcp(letters(flags)))


@pytest.mark.parametrize("state", [s for s in State if s < State.UDP], ids=lambda state: state.name)
def test_only_settled_states_of_unfinished_connections_are_remembered(quick: World, state: State) -> None:
    establish(quick)
    quick.edit(state=state)
    quick.send(tcp("A"))
    deceive(quick)
    assert by_heart(quick, tcp("A")) == (next_state(state, 0x10) in SETTLED - REUSABLE)


def test_a_line_ends_with_its_tick(world: World) -> None:
    world.apply_reals(real(1), real(2, weight=0))
    await_a_young_tick()
    establish(world)
    deceive(world)
    assert by_heart(world, tcp("A"))
    deadline = time.monotonic() + 2 * TICK_NS / 1e9
    while by_heart(world, tcp("A")):
        assert time.monotonic() < deadline, "it is remembered for longer than a tick"
        time.sleep(0.02)


def test_the_age_of_a_connection_answered_by_heart_is_right(world: World) -> None:
    """The table is asked, and told, in every tick."""
    establish(world)
    until = time.monotonic_ns() + 2 * TICK_NS
    while time.monotonic_ns() < until:
        world.send(tcp("A"))
        assert world.data._maps().now_t() - int(world.entry()["last_seen_t"]) <= 1


def test_each_cpu_asks_for_itself(quick: World) -> None:
    with on_cpu(0):
        establish(quick)
        deceive(quick)
        assert by_heart(quick, tcp("A"))
    with on_cpu(1):
        assert by_heart(quick, tcp("A")) == (len(CPUS) == 1)


def test_raised_epochs_void_every_line(world: World) -> None:
    ports = range(1000, 1040)
    world.apply_reals(real(1), real(2, weight=0))
    await_a_young_tick(ports)
    for port in ports:
        establish(world, port)
    deceive(world)
    assert all(by_heart(world, tcp("A", port)) for port in ports)
    world.data._maps().raise_epochs()
    assert not any(by_heart(world, tcp("A", port)) for port in ports)


def test_a_port_used_again_on_another_cpu(world: World) -> None:
    """Its new connection goes elsewhere at once, on every CPU that remembers the old one."""
    await_a_young_tick(range(1000, 1010))
    for port in range(1000, 1010):
        with on_cpu(0):
            home = world.real_of(tcp("S", port))
            assert {world.real_of(tcp("A", port)) for _ in range(3)} == {home}
        with on_cpu(1):
            assert {world.real_of(tcp("A", port)) for _ in range(3)} == {home}
            world.send(tcp("FA", port))
            again = world.real_of(tcp("S", port))
            if again == home:
                world.send(tcp("R", port))
                again = world.real_of(tcp("S", port))
            assert again != home
        with on_cpu(0):
            assert {world.real_of(tcp("A", port)) for _ in range(3)} == {again}


def test_a_state_that_unsettles_on_another_cpu(quick: World) -> None:
    """CLOSE_WAIT, then a SYN: the ACK that ends the handshake counts, wherever it comes in."""
    with on_cpu(0):
        establish(quick)
        quick.edit(state=State.CLOSE_WAIT)
        quick.send(tcp("A"))
    with on_cpu(1):
        quick.send(tcp("S"))
        assert quick.states() == [State.SYN_RECV]
    with on_cpu(0):
        quick.send(tcp("A"))
    assert quick.states() == [State.ESTABLISHED]


@pytest.mark.parametrize("flags", ["R", "FA"])
def test_an_end_seen_on_another_cpu(quick: World, flags: str) -> None:
    """What comes after it goes where it went, and leaves the state alone, by heart or not."""
    with on_cpu(0):
        establish(quick)
    with on_cpu(1):
        quick.send(tcp(flags))
    ended = quick.states()
    with on_cpu(0):
        assert quick.send(tcp("A")) == gated(tcp("A"), mac_of(1))
    assert quick.states() == ended


def test_a_connection_installed_over_one(quick: World) -> None:
    for number in (0, 1):
        with on_cpu(number):
            establish(quick)
    assert quick.data.install(row(to=real(2).address)) == (1, 0)
    for number in (0, 1):
        with on_cpu(number):
            assert quick.real_of(tcp("A")) == 2


def test_installing_what_is_known_voids_nothing(quick: World) -> None:
    establish(quick)
    assert quick.data.install(np.concatenate([row(), row(2000)])) == (2, 0)
    deceive(quick)
    assert by_heart(quick, tcp("A"))


def test_a_connection_that_was_swept_away(quick: World) -> None:
    """It ran out by the clock of the one who sweeps; no CPU goes on with it."""
    establish(quick)
    deceive(quick, last_seen_t=quick.data._maps().now_t() - abi.ticks(1000))
    assert quick.data.sweep().expired == 1
    with quick.counting(drop_no_lease=1):
        quick.send(tcp("A"))


def test_a_row_of_reals_that_is_used_again(own: World) -> None:
    """Two sweeps and a new real within one tick: what CPUs remember of the row's number is void before it is free."""
    own.apply_reals(real(1), real(2))
    own.data.sweep()
    ports = range(1000, 1040)
    await_a_young_tick(ports)
    homes = {port: own.real_of(tcp("S", port)) for port in ports}
    for port in ports:
        own.send(tcp("A", port))
    own.apply_reals(real(2))
    assert {port: own.real_of(tcp("A", port)) for port in ports} == homes, "drained, not gone"
    left = row_of(own, 1, 80)
    own.maps["connections"].delete(np.array([key for key, value in own.entries() if value["real"] == left]))
    assert sum(own.data.sweep().released for _ in range(2)) == 2
    own.apply_reals(real(2), real(3))
    assert row_of(own, 3, 80) == left
    for port, home in homes.items():
        verdict, out = own.send(tcp("A", port))
        assert (verdict, out) == (gated(tcp("A", port), mac_of(2)) if home == 2 else (1, tcp("A", port)))


def test_a_program_begins_without_memories(own: World) -> None:
    own.apply_reals(real(1), real(2, weight=0))
    establish(own)
    deceive(own)
    own.data.settings = SETTINGS.model_copy(update={"established": 800.0})
    own.apply_reals(real(1), real(2, weight=0))
    assert not by_heart(own, tcp("A"))


def small_cache(world: World, bits: int) -> World:
    """With so many sets on each CPU, as log2."""
    world.data._cache_set_bits = bits
    world.apply_reals(real(1), real(2, weight=0))
    return world


@pytest.mark.parametrize("bits", [1, 2])
def test_lines_that_hold_are_not_pushed_out(own: World, bits: int) -> None:
    small_cache(own, bits)
    ports = range(1000, 1040)

    def remembered_twice() -> list[list[int]]:
        own.forget()
        for port in ports:
            establish(own, port)
        deceive(own)
        return [[port for port in ports if by_heart(own, tcp("A", port))] for _ in range(2)]

    first, second = within_a_tick(remembered_twice, ports)
    assert 0 < len(first) <= (1 << bits) * abi.CACHE_WAYS  # the seed decides whether each set finds two of them
    assert second == first


def test_nobody_can_choose_who_shares_a_set(own: World) -> None:
    """The same connections meet others in each program."""

    ports = range(1000, 1032)

    def remembered() -> list[int]:
        own.forget()
        for port in ports:
            establish(own, port)
        deceive(own)
        return [port for port in ports if by_heart(own, tcp("A", port))]

    small_cache(own, 4)
    found = [within_a_tick(remembered, ports)]
    for seconds in (800.0, 700.0):
        own.data.settings = SETTINGS.model_copy(update={"established": seconds})
        small_cache(own, 4)
        found.append(within_a_tick(remembered, ports))
    assert found[0] != found[1] or found[1] != found[2]


def test_without_a_cache_the_table_is_always_asked(own: World) -> None:
    small_cache(own, 0)
    establish(own)
    deceive(own)
    assert not by_heart(own, tcp("A"))


def test_a_cpu_without_a_part_asks_the_table(own: World) -> None:
    """One that was switched on after the program was loaded."""
    own.data._cpus = 1
    own.apply_reals(real(1), real(2, weight=0))
    with on_cpu(1):
        establish(own)
        deceive(own)
        assert by_heart(own, tcp("A")) == (len(CPUS) == 1)
