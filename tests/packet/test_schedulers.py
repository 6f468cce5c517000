"""Who gets new connections: what each scheduler promises, with all of them in one program."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

import numpy as np
import pytest

from lb import abi, bpf, catalog
from lb.datapath.view import View
from lb.schedule import SCHEDULERS, list_limit
from lb.service import Destination, Service, ServiceKey
from tests.packet.world import TCP_KEY, UDP_KEY, VIRTUAL, World, dropped, limited, real, tcp, udp

FLAGS = {
    **dict.fromkeys(SCHEDULERS, ()),
    "sh with fallback": ("sh-fallback",),
    "sh with port": ("sh-port",),
    "mh with both": ("mh-fallback", "mh-port"),
}
"""Flags of a service for each scheduler, and of some more."""
KEYS = {name: ServiceKey(VIRTUAL, 1000 + number, 6) for number, name in enumerate(FLAGS)}
CLIENTS = [str(IPv4Address(0x0A000001 + 7919 * number)) for number in range(200)]


def services(name: str, *reals: Destination) -> tuple[Service, ...]:
    """One for each scheduler, of which one has these reals. Another one has limits, so that they are compiled in."""
    made = {other: Service(key, other.split()[0], (real(1),), None, FLAGS[other]) for other, key in KEYS.items()}
    made[name] = replace(made[name], destinations=reals)
    return *made.values(), Service(TCP_KEY, "rr", (limited(1, 1000),))


def frame(name: str, flags: str, port: int, client: str) -> bytes:
    """To the service of a scheduler."""
    return tcp(flags, port, client, dport=KEYS[name].port)


@pytest.fixture(scope="module")
def every(loaded: World) -> World:
    """One service for each scheduler."""
    loaded.apply(*services("rr", real(1)))
    return loaded


def homes(world: World, name: str, clients: list[str], *reals: Destination) -> list[int]:
    """The numbers of the reals that get these clients, one after the other; 0: nobody does."""
    world.forget()
    world.apply(*services(name, *reals))
    found = []
    for port, client in enumerate(clients, start=1):
        sent = frame(name, "S", port, client)
        verdict, out = world.send(sent)
        found.append(0 if (verdict, out) == dropped(sent) else out[5])
    return found


def test_rr_splits_a_hundred_connections_in_halves(every: World) -> None:
    found = homes(every, "rr", ["10.0.0.1"] * 100, real(1), real(2))
    assert Counter(found) == {1: 50, 2: 50}
    assert all(a != b for a, b in pairwise(found))


def test_wrr_is_exact_over_each_turn(every: World) -> None:
    assert Counter(homes(every, "wrr", ["10.0.0.1"] * 100, real(1, 3), real(2, 1))) == {1: 75, 2: 25}


@pytest.mark.parametrize("name", ["sh", "mh"])
def test_a_client_sticks_to_its_real(every: World, name: str) -> None:
    assert len(set(homes(every, name, ["10.1.2.3"] * 20, real(1), real(2), real(3)))) == 1
    assert set(homes(every, name, CLIENTS, real(1), real(2), real(3))) == {1, 2, 3}


@pytest.mark.parametrize("name", ["sh with port", "mh with both"])
def test_a_client_is_spread_by_its_ports(every: World, name: str) -> None:
    assert set(homes(every, name, ["10.1.2.3"] * 40, real(1), real(2), real(3))) == {1, 2, 3}


def test_wlc_balances_by_weight(every: World) -> None:
    assert Counter(homes(every, "wlc", CLIENTS, real(1, 1), real(2, 3))) == {1: 50, 2: 150}


def test_a_full_real_takes_nobody_until_it_is_below_lower(every: World) -> None:
    assert homes(every, "fo", ["10.0.0.1"] * 6, limited(1, 4, 2, weight=9), real(2)) == [1, 1, 1, 1, 2, 2]
    every.edit(last_seen_t=View.now_t() - abi.ticks(200))
    every.data.sweep()
    assert every.send(frame("fo", "S", 100, "10.0.0.1"))[1][5] == 1


@pytest.mark.parametrize(("name", "others"), [("sh", [0] * 9), ("sh with fallback", [2] * 9)])
def test_the_clients_of_a_full_real_are_refused_or_fall_back(every: World, name: str, others: list[int]) -> None:
    first = next(c for c in CLIENTS if homes(every, name, [c], real(1), real(2)) == [1])
    assert homes(every, name, [first] * 10, limited(1, 1), real(2)) == [1, *others]


def test_a_table_in_use_is_replaced_while_packets_flow(every: World) -> None:
    """Publications of ever other lengths: each is in force at once, none disturbs another service's."""
    for count in (1, 7, 30, 2, 19):
        found = homes(every, "rr", CLIENTS[: 2 * count], *(real(number) for number in range(1, 1 + count)))
        assert Counter(found) == dict.fromkeys(range(1, 1 + count), 2)


def test_each_service_has_its_own_turn(own: World) -> None:
    own.apply(*(Service(key, "rr", (real(1), real(2))) for key in (TCP_KEY, UDP_KEY)))
    mixed = [(own.real_of(tcp("S", port)), own.real_of(udp(port))) for port in range(1, 41)]
    assert Counter(a for a, _ in mixed) == Counter(b for _, b in mixed) == {1: 20, 2: 20}


@pytest.mark.parametrize("names", [tuple(SCHEDULERS), ("nq", "ovf", "lblc", "lblcr")])
def test_the_largest_that_are_accepted_load(own: World, names: tuple[str, ...]) -> None:
    """Kernels refuse a program that is too long to check: the file must be refused before."""
    reals = tuple(
        Destination(IPv4Address("10.1.0.0") + n, 1, bytes((2, 0, 0, 0, 2, n & 255)), upper=9)
        for n in range(list_limit(names))
    )
    flags = {name: tuple(flag for flag in catalog.FLAGS if flag.startswith(f"{name}-")) for name in names}
    own.apply(
        *(
            Service(ServiceKey(VIRTUAL, 1000 + n, protocol), name, reals, None, flags[name])
            for n, name in enumerate(names)
            for protocol in (6, 17)
        )
    )
    assert own.send(tcp("S", dport=1000))[0] == bpf.TX


def test_two_hundred_and_fifty_six_reals_are_compared(own: World) -> None:
    reals = tuple(Destination(IPv4Address("10.1.0.0") + n, 1, bytes((2, 0, 0, 0, 2, n & 255))) for n in range(256))
    own.apply(Service(TCP_KEY, "wlc", reals))
    macs = [own.send(tcp("S", port))[1][:6] for port in range(1, 257)]
    assert macs == [destination.mac for destination in reals]
    assert np.all(own.maps["loads"].read()["active"][:256] == 1)
