"""One connection's life: what opens it, what it becomes, where it goes, and when it is forgotten."""

from __future__ import annotations

import pytest

from lb import abi
from lb.datapath.view import View
from lb.service import Service
from lb.tcp import REUSABLE, TIMEOUTS_S, State, next_state, opens
from tests.packet.world import (
    TCP_KEY,
    UDP_KEY,
    World,
    dropped,
    gated,
    local,
    mac_of,
    passed,
    real,
    tcp,
    udp,
)

TCP_STATES = [state for state in State if state < State.UDP]
EVERY_FLAGS = range(0x40)
LETTERS = "FSRPAU"


def letters(flags: int) -> str:
    """Scapy's spelling of TCP flags."""
    return "".join(letter for bit, letter in enumerate(LETTERS) if flags >> bit & 1)


@pytest.mark.parametrize(
    ("segments", "state"),
    [
        ("S", State.SYN_RECV),
        ("S A", State.ESTABLISHED),
        ("S A PA PA", State.ESTABLISHED),
        ("S A FA", State.FIN_WAIT),
        ("S A FA A", State.FIN_WAIT),
        ("S A R", State.CLOSE),
        ("S A RA", State.CLOSE),
        ("S S", State.SYN_RECV),
        ("S R", State.SYN_RECV),
        ("S FA", State.TIME_WAIT),
        ("SEC A", State.ESTABLISHED),
    ],
)
def test_a_life(world: World, segments: str, state: State) -> None:
    world.apply_reals(real(1))
    frames = [tcp(flags) for flags in segments.split()]
    with world.counting(tx_packets=len(frames)):
        for frame in frames:
            assert world.send(frame) == gated(frame, mac_of(1))
    assert world.states() == [state]


@pytest.mark.parametrize("state", TCP_STATES, ids=lambda state: state.name)
def test_every_transition(world: World, state: State) -> None:
    """Each set of flags on a connection in each state: as lb.tcp says, and always to the connection's real."""
    world.send(tcp("S"))
    home = world.entry()["real"]
    for flags in EVERY_FLAGS:
        world.edit(state=state, real=home, last_seen_t=View.now_t())
        world.send(tcp(letters(flags)))
        reopened = opens(flags) and state in REUSABLE
        expected = State.SYN_RECV if reopened else next_state(state, flags)
        assert State(world.entry()["state"]) == expected, letters(flags)


@pytest.mark.parametrize("flags", EVERY_FLAGS)
def test_what_opens_a_connection(world: World, flags: int) -> None:
    world.apply_reals(real(1))
    frame = tcp(letters(flags))
    if opens(flags):
        with world.counting(tx_packets=1):
            assert world.send(frame) == gated(frame, mac_of(1))
        assert State(world.entry()["state"]) == State.SYN_RECV
    else:
        with world.counting(drop_no_lease=1):
            assert world.send(frame) == dropped(frame)
        assert world.entries() == []


def test_segments_without_connection_are_the_kernels_while_the_lease_lasts(world: World) -> None:
    """The kernel answers with a reset; but a director that may have lost the address must not."""
    world.data.renew_lease(60)
    with world.counting(passed=1):
        assert world.send(tcp("A")) == passed(tcp("A"))
    world.data.renew_lease(0)
    with world.counting(drop_no_lease=1):
        assert world.send(tcp("A")) == dropped(tcp("A"))


def test_every_packet_of_a_connection_goes_to_its_real(world: World) -> None:
    for port in range(1000, 1020):
        home = world.real_of(tcp("S", port))
        assert {world.real_of(tcp(flags, port)) for flags in ("A", "PA", "A", "FA", "A")} == {home}
    for port in range(1000, 1020):
        home = world.real_of(udp(port))
        assert {world.real_of(udp(port)) for _ in range(5)} == {home}


def test_a_datagram_opens_a_connection(world: World) -> None:
    with world.counting(tx_packets=1):
        assert world.send(udp()) == gated(udp(), mac_of(1))
    ((key, value),) = world.entries()
    assert (int(key["protocol"]), int(key["client_port"]), int(key["virtual_port"])) == (17, 1000, 53)
    assert State(value["state"]) == State.UDP


@pytest.mark.parametrize("state", [s for s in TCP_STATES if s is not State.NONE], ids=lambda state: state.name)
def test_a_connection_is_forgotten_after_its_states_timeout(world: World, state: State) -> None:
    timeout_t = abi.ticks(TIMEOUTS_S[state])
    for age_t, remembered in ((timeout_t - 1, True), (timeout_t + 1, False)):
        world.forget()
        world.send(tcp("S"))
        world.edit(state=state)
        world.age(age_t)
        frame = tcp("A")
        if remembered:
            assert world.real_of(frame)
        else:
            with world.counting(drop_no_lease=1):
                assert world.send(frame) == dropped(frame)


def test_a_datagram_after_the_timeout_is_scheduled_anew(world: World) -> None:
    first = world.real_of(udp())
    world.age(abi.ticks(TIMEOUTS_S[State.UDP]) - 1)
    assert world.real_of(udp()) == first
    world.age(abi.ticks(TIMEOUTS_S[State.UDP]) + 1)
    assert world.real_of(udp()) != first
    assert len(world.entries()) == 1


def test_a_syn_after_the_timeout_is_scheduled_anew(world: World) -> None:
    first = world.real_of(tcp("S"))
    world.age(abi.ticks(TIMEOUTS_S[State.SYN_RECV]) + 1)
    assert world.real_of(tcp("S")) != first


@pytest.mark.parametrize("state", TCP_STATES[1:], ids=lambda state: state.name)
def test_a_client_that_uses_its_port_again(world: World, state: State) -> None:
    first = world.real_of(tcp("S"))
    world.edit(state=state)
    second = world.real_of(tcp("S"))
    assert (second != first) == (state in REUSABLE)


def test_the_time_of_the_last_packet_is_kept(world: World) -> None:
    world.send(tcp("S"))
    world.send(tcp("A"))
    world.age(100)
    world.send(tcp("A"))
    assert 0 <= View.now_t() - int(world.entry()["last_seen_t"]) <= 1


def test_an_entry_from_the_future_is_no_old_one(world: World) -> None:
    """User space reads a finer clock: what it installs may be a tick ahead."""
    home = world.real_of(tcp("S"))
    world.age(-1)
    assert world.real_of(tcp("A")) == home


def test_a_drained_real_keeps_its_connections_and_gets_no_new_one(world: World) -> None:
    homes = {port: world.real_of(tcp("S", port)) for port in range(1000, 1010)}
    world.apply_reals(real(1, weight=0), real(2))
    assert {port: world.real_of(tcp("A", port)) for port in homes} == homes
    assert {world.real_of(tcp("S", port)) for port in range(2000, 2010)} == {2}


def test_a_retired_real_keeps_its_connections_and_gets_no_new_one(world: World) -> None:
    homes = {port: world.real_of(tcp("S", port)) for port in range(1000, 1010)}
    world.apply_reals(real(2))
    assert {port: world.real_of(tcp("A", port)) for port in homes} == homes
    assert {world.real_of(tcp("S", port)) for port in range(2000, 2010)} == {2}
    assert [d.address for d in world.data.held()[0].destinations] == [real(2).address]


def test_a_real_that_comes_back_is_the_same(world: World) -> None:
    homes = {port: world.real_of(tcp("S", port)) for port in range(1000, 1010)}
    world.apply_reals(real(2))
    world.apply_reals(real(1), real(2))
    assert {port: world.real_of(tcp("A", port)) for port in homes} == homes
    held = {d.address: d.active for d in world.data.held()[0].destinations}
    assert held == {real(1).address: 5, real(2).address: 5}


def test_connections_follow_the_mac_of_their_real(world: World) -> None:
    world.apply_reals(real(1))
    world.send(tcp("S"))
    moved = real(9)
    world.apply_reals(type(moved)(real(1).address, 1, moved.mac))
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(9))


def test_a_known_connection_whose_real_has_no_mac(world: World) -> None:
    world.apply_reals(real(1))
    world.send(tcp("S"))
    world.apply_reals(real(1, resolved=False))
    with world.counting(drop_no_neighbour=1):
        assert world.send(tcp("A")) == dropped(tcp("A"))
    world.apply_reals(real(1))
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(1))


def test_no_real_at_all(world: World) -> None:
    for reals in ((), (real(1, weight=0),), (real(1, resolved=False),)):
        world.apply_reals(*reals)
        with world.counting(drop_no_real=2):
            assert world.send(tcp("S")) == dropped(tcp("S"))
            assert world.send(udp()) == dropped(udp())
    assert world.entries() == []


def test_a_full_table_makes_room_by_its_oldest(own: World) -> None:
    """An LRU table: a new connection is never refused."""
    own.data.close(detach=True)
    small = World.open(own.node, settings=own.data.settings.model_copy(update={"max": 1024}))
    try:
        small.apply_reals(real(1))
        with small.counting(tx_packets=2500):
            for port in range(2500):
                small.send(tcp("S", port))
        assert 512 <= len(small.entries()) <= 1024
        assert small.real_of(tcp("A", 2499)) == 1
    finally:
        small.data.close(detach=False)


def test_packets_and_bytes_are_counted_per_real(world: World) -> None:
    world.apply_reals(real(1))
    before = world.data.held()[0].destinations[0]
    for flags in ("S", "A", "PA"):
        world.send(tcp(flags))
    after = world.data.held()[0].destinations[0]
    assert after.packets - before.packets == 3
    assert after.bytes - before.bytes == 3 * (len(tcp()) - 14)
    assert after.connections - before.connections == 1
    totals = world.data.totals()[TCP_KEY, real(1).address]
    assert (totals.packets, totals.bytes, totals.connections) == (after.packets, after.bytes, after.connections)


def test_a_fallback_that_is_this_director(world: World) -> None:
    world.apply_reals(real(1, weight=0), fallback=local())
    with world.counting(passed=3):
        for flags in ("S", "A", "PA"):
            assert world.send(tcp(flags)) == passed(tcp(flags))
    assert [service.fallback_active for service in world.data.held()] == [True, True]
    fallback = world.data.held()[0].fallback
    assert fallback is not None
    assert (fallback.local, fallback.packets, fallback.active) == (True, 3, 1)


def test_a_fallback_elsewhere_only_while_nobody_else_can(world: World) -> None:
    world.apply_reals(real(1, resolved=False), fallback=real(8))
    assert world.send(tcp("S", 1)) == gated(tcp("S", 1), mac_of(8))
    world.apply_reals(real(1), fallback=real(8))
    assert [world.real_of(tcp("S", port)) for port in range(2, 6)] == [1] * 4
    assert world.send(tcp("A", 1)) == gated(tcp("A", 1), mac_of(8)), "its connection stays with it"
    assert not world.data.held()[0].fallback_active


def test_every_port_and_exact_ports_first(own: World) -> None:
    own.apply(
        Service(TCP_KEY._replace(port=0), "rr", (real(1),)),
        Service(TCP_KEY, "rr", (real(2),)),
        Service(UDP_KEY._replace(port=0), "rr", (real(3),)),
    )
    assert own.real_of(tcp("S", dport=80)) == 2
    assert {own.real_of(tcp("S", dport=port)) for port in (0, 1, 79, 81, 443, 65535)} == {1}
    assert {own.real_of(udp(dport=port)) for port in (0, 53, 80, 65535)} == {3}
    assert own.real_of(tcp("A", dport=443)) == 1


def test_tcp_and_udp_of_the_same_ports_are_two_connections(own: World) -> None:
    own.apply(Service(TCP_KEY, "rr", (real(1),)), Service(UDP_KEY._replace(port=80), "rr", (real(2),)))
    assert own.real_of(tcp("S")) == 1
    assert own.real_of(udp(dport=80)) == 2
    assert own.real_of(tcp("A")) == 1
