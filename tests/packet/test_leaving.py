"""What becomes of connections whose real left its service, both ways (IPVS's expire_nodest_conn)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lb.service import Destination, Service
from lb.tcp import State
from tests.packet.world import TCP_KEY, UDP_KEY, World, dropped, gated, mac_of, passed, real, tcp, udp

TWO = (real(1), real(2))
HOLDING = Service(TCP_KEY, "rr", TWO, quiescent=False)
ENDING = replace(HOLDING, expire_nodest=True)


def gone(number: int) -> Destination:
    """A real that is down, of a service that is not quiescent."""
    return replace(real(number, weight=0, share=1), gone=True)


@pytest.fixture
def established(again: World) -> World:
    """A connection on port 1 to real 1, recalled from the cache."""
    again.apply(HOLDING)
    assert [again.real_of(tcp(flags, 1)) for flags in ("S", "A", "A", "A")] == [1, 1, 1, 1]
    return again


def test_it_is_held_up_and_goes_on(established: World) -> None:
    world = established
    world.apply(replace(HOLDING, destinations=(gone(1), real(2))))
    with world.counting(drop_real_gone=4):
        for flags in ("A", "PA", "S", "FA"):
            assert world.send(tcp(flags, 1)) == dropped(tcp(flags, 1))
    assert State(world.entry()["state"]) == State.ESTABLISHED, "as if the packets had not come"
    world.apply(HOLDING)
    assert world.send(tcp("A", 1)) == gated(tcp("A", 1), mac_of(1))


def test_who_comes_goes_elsewhere(established: World) -> None:
    established.apply(replace(HOLDING, destinations=(gone(1), real(2))))
    assert {established.real_of(tcp("S", port)) for port in (2, 3, 4)} == {2}


def test_it_ends_with_its_next_packet(again: World) -> None:
    again.apply(ENDING)
    for port in (1, 3, 5):
        assert [again.real_of(tcp(flags, port)) for flags in ("S", "A", "A")] == [1, 1, 1]
        again.send(tcp("S", port + 1))
    again.data.renew_lease(60)
    again.apply(replace(ENDING, destinations=(gone(1), real(2))))
    with again.counting(passed=1):
        assert again.send(tcp("A", 1)) == passed(tcp("A", 1)), "the kernel answers with a reset"
    with again.counting(tx_packets=1):
        assert again.send(tcp("S", 3)) == gated(tcp("S", 3), mac_of(2)), "its client begins anew"
    again.data.renew_lease(0)
    with again.counting(drop_no_lease=1):
        assert again.send(tcp("A", 5)) == dropped(tcp("A", 5)), "another director may own the address"
    assert sorted(int(key["client_port"]) for key, _ in again.entries()) == [2, 3, 4, 6]
    again.apply(ENDING)
    assert again.real_of(tcp("A", 3)) == 2


def test_a_datagram_of_one_that_ended_goes_elsewhere(again: World) -> None:
    service = replace(ENDING, key=UDP_KEY)
    again.apply(service)
    assert [again.real_of(udp(1)) for _ in range(3)] == [1, 1, 1]
    again.apply(replace(service, destinations=(gone(1), real(2))))
    assert [again.real_of(udp(1)) for _ in range(2)] == [2, 2]
    assert len(again.entries()) == 1


@pytest.mark.parametrize(("service", "home"), [(HOLDING, 1), (ENDING, 2)], ids=["goes on", "ends"])
def test_a_real_that_left_the_file(again: World, service: Service, home: int) -> None:
    again.apply(service)
    again.send(tcp("S", 1))
    again.send(tcp("A", 1))
    again.apply(replace(service, destinations=(real(2),)))
    assert again.real_of(tcp("S", 1)) == home


@pytest.mark.parametrize(("service", "home"), [(HOLDING, 1), (ENDING, 2)], ids=["goes on", "ends"])
def test_a_client_that_begins_anew_on_a_drained_real(again: World, service: Service, home: int) -> None:
    again.apply(service)
    for flags in ("S", "A"):
        again.send(tcp(flags, 1))
    again.apply(replace(service, destinations=(real(1, weight=0), real(2))))
    assert again.real_of(tcp("A", 1)) == 1
    assert again.real_of(tcp("S", 1)) == home


def test_one_that_left_is_not_listed_and_keeps_its_totals(established: World) -> None:
    established.apply(replace(HOLDING, destinations=(gone(1), real(2))))
    first, second = established.data.held()[0].destinations
    assert first.gone
    assert first.active == 1
    assert first.packets >= 4
    assert not second.gone


def test_hash_schedulers_give_its_places_up(again: World) -> None:
    """A quiescent real keeps its places, so that nobody else moves; here the table is as if it had never been."""
    clients = [f"10.0.{n}.1" for n in range(40)]
    homes = []
    for destinations in ((real(1), gone(2), real(3)), (real(1), real(3))):
        again.apply(replace(HOLDING, scheduler="sh", destinations=destinations))
        homes.append([again.real_of(tcp("S", 1, client)) for client in clients])
        again.forget()
    assert homes[0] == homes[1]
    assert set(homes[0]) == {1, 3}
