"""Who gets new connections: the program against lb.schedule."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address
from itertools import pairwise

import pytest

from lb.schedule import SCHEDULERS, table_of
from lb.service import Destination, Service, ServiceKey
from tests.packet.world import TCP_KEY, UDP_KEY, VIRTUAL, World, real, tcp, udp

KEYS = {name: ServiceKey(VIRTUAL, 1000 + number, 6) for number, name in enumerate(SCHEDULERS)}
CLIENTS = [str(IPv4Address(0x0A000001 + 7919 * number)) for number in range(300)]


@pytest.fixture(scope="module")
def every(loaded: World) -> World:
    """One service for each scheduler."""
    loaded.apply(*(Service(key, name, (real(1),)) for name, key in KEYS.items()))
    return loaded


def open_from(world: World, scheduler: str, clients: list[str]) -> list[int]:
    """The number of the real that each client's next connection goes to."""
    world.forget()
    return [
        world.real_of(tcp("S", client=client, port=1 + number, dport=KEYS[scheduler].port))
        for number, client in enumerate(clients)
    ]


def apply(world: World, scheduler: str, *reals: Destination) -> Service:
    """These reals for one scheduler's service."""
    services = {name: Service(key, name, (real(1),)) for name, key in KEYS.items()}
    services[scheduler] = Service(KEYS[scheduler], scheduler, reals)
    world.apply(*services.values())
    return services[scheduler]


def expected(service: Service, cursor: int, clients: list[str]) -> list[int]:
    """What lb.schedule says."""
    table, _ = table_of(service)
    slot = SCHEDULERS[service.scheduler].slot
    numbers = [slot(cursor + n, int(IPv4Address(client))) % len(table) for n, client in enumerate(clients)]
    return [int(service.destinations[table[number]].address) - int(real(0).address) for number in numbers]


REALS = {
    "one": (real(1),),
    "two": (real(1), real(2)),
    "weighted": (real(1, 3), real(2, 1), real(3, 2)),
    "one drained": (real(1, 0), real(2), real(3)),
    "one unresolved": (real(1), real(2, resolved=False), real(3, 4)),
    "one down that keeps its share": (real(1), real(2, 0, share=2), real(3, 2)),
    "many": tuple(real(number, 1 + number % 4) for number in range(1, 31)),
}


@pytest.mark.parametrize("reals", REALS.values(), ids=REALS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_program_schedules_as_the_reference(every: World, scheduler: str, reals: tuple[Destination, ...]) -> None:
    service = apply(every, scheduler, *reals)
    number = list(KEYS).index(scheduler)
    assert every.data._program is not None
    cursor = int(every.data._program._maps["schedules"].read()["cursor"][number])
    assert open_from(every, scheduler, CLIENTS) == expected(service, cursor, CLIENTS)


def test_rr_splits_a_hundred_connections_in_halves(every: World) -> None:
    apply(every, "rr", real(1), real(2))
    homes = open_from(every, "rr", ["10.0.0.1"] * 100)
    assert Counter(homes) == {1: 50, 2: 50}
    assert all(a != b for a, b in pairwise(homes))


def test_wrr_is_exact_over_each_turn(every: World) -> None:
    apply(every, "wrr", real(1, 3), real(2, 1))
    assert Counter(open_from(every, "wrr", ["10.0.0.1"] * 100)) == {1: 75, 2: 25}


@pytest.mark.parametrize("scheduler", ["sh", "mh"])
def test_a_client_sticks_to_its_real(every: World, scheduler: str) -> None:
    apply(every, scheduler, real(1), real(2), real(3))
    assert len(set(open_from(every, scheduler, ["10.1.2.3"] * 20))) == 1
    assert set(open_from(every, scheduler, CLIENTS)) == {1, 2, 3}


def test_a_table_in_use_is_replaced_while_packets_flow(every: World) -> None:
    """Publications of ever other lengths: each is in force at once, none disturbs another service's."""
    apply(every, "sh", real(5))
    for count in (1, 7, 30, 2, 19):
        reals = tuple(real(number) for number in range(1, 1 + count))
        services = [Service(KEYS["rr"], "rr", reals), *(Service(KEYS[n], n, (real(5),)) for n in ("wrr", "sh", "mh"))]
        every.apply(*services)
        assert Counter(open_from(every, "rr", CLIENTS[: 2 * count])) == dict.fromkeys(range(1, 1 + count), 2)
        assert set(open_from(every, "sh", CLIENTS[:20])) == {5}


def test_each_service_has_its_own_turn(every: World) -> None:
    every.apply(*(Service(key, "rr", (real(1), real(2))) for key in (TCP_KEY, UDP_KEY)))
    every.forget()
    mixed = [(every.real_of(tcp("S", port)), every.real_of(udp(port))) for port in range(1, 41)]
    assert Counter(a for a, _ in mixed) == Counter(b for _, b in mixed) == {1: 20, 2: 20}
