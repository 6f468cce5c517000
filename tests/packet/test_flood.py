"""Floods of first packets: what they move, and what they must not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lb import bpf
from lb.service import Service
from lb.tcp import State
from tests.packet.test_counts import counts, held
from tests.packet.world import NODE, SETTINGS, TCP_KEY, UDP_KEY, World, network_namespace, real, tcp, udp

SIZE = 1024
FLOOD = 2 * SIZE
ESTABLISHED = range(1000, 1200)
YOUNG = ESTABLISHED[:20]
"""So few that no five meet in a set of four, whose oldest would have to go."""
TWO = (real(1), real(2))
SERVICES = (Service(TCP_KEY, "wlc", TWO), Service(UDP_KEY, "lc", TWO))
CLIENT_AT, PORT_AT = 26, 34


@pytest.fixture
def small() -> Iterator[World]:
    """Tables of SIZE connections and as many half-open ones."""
    with network_namespace():
        world = World.open(f"{NODE}.small", SETTINGS.model_copy(update={"max": SIZE}))
        try:
            world.apply(*SERVICES)
            yield world
        finally:
            world.close()


def flood(world: World, frame: bytes) -> None:
    """First packets of FLOOD clients that answer nobody."""
    made = bytearray(frame)
    for number in range(FLOOD):
        made[CLIENT_AT : CLIENT_AT + 4] = (0xC6120000 + number * 977 % 2**17).to_bytes(4, "big")
        made[PORT_AT : PORT_AT + 2] = (number * 7919 % 2**16).to_bytes(2, "big")
        assert world.send(bytes(made))[0] == bpf.TX


def whole(world: World) -> set[int]:
    """The client ports of the connection table."""
    return {int(key["client_port"]) for key, _ in world.entries(half_open=False) if not key["template"]}


@pytest.mark.parametrize("frame", [tcp("S"), udp()], ids=["SYNs", "datagrams"])
def test_every_connection_stays_in_its_place(small: World, frame: bytes) -> None:
    homes = {}
    for port in ESTABLISHED:
        homes[port] = small.real_of(tcp("S", port))
        assert small.real_of(tcp("A", port)) == homes[port]
    small.events()
    flood(small, frame)
    assert whole(small) == set(ESTABLISHED)
    assert {port: small.real_of(tcp("A", port)) for port in ESTABLISHED} == homes
    assert len(small.half_open()) <= SIZE
    assert len(small.events()) == 0, "nobody hears of them"
    assert counts(small) == held(small), "who was moved is counted no more"


def test_who_answers_in_time_gets_in(small: World) -> None:
    flood(small, tcp("S"))
    for port in ESTABLISHED:
        home = small.real_of(tcp("S", port))
        assert small.real_of(tcp("A", port)) == home
    assert whole(small) == set(ESTABLISHED)
    states = {State(value["state"]) for _, value in small.entries(half_open=False)}
    assert states == {State.ESTABLISHED}


def test_nor_do_templates_take_their_place(small: World) -> None:
    small.apply(replace(SERVICES[0], persistent_s=300), SERVICES[1])
    small.send(tcp("S"))
    small.send(tcp("A"))
    home = small.real_of(tcp("S", 2000))
    flood(small, tcp("S"))
    assert len(small.entries(half_open=False)) == 2, "one connection and its client's template"
    assert small.real_of(tcp("S", 3000)) == home


def test_the_next_program_goes_on_with_them(small: World) -> None:
    homes = {port: small.real_of(tcp("S", port)) for port in YOUNG}
    small.apply(replace(SERVICES[0], scheduler="rr"), SERVICES[1])
    small.data.close(detach=False)
    again = World.open(small.node, SETTINGS.model_copy(update={"max": SIZE}))
    again.apply(replace(SERVICES[0], scheduler="sh"), SERVICES[1])
    assert {port: again.real_of(tcp("A", port)) for port in YOUNG} == homes
    again.data.close(detach=True)


def test_nobody_is_told_where_nobody_is(own: World) -> None:
    own.data.told = False
    own.apply(*SERVICES)
    for flags in ("S", "A", "FA"):
        own.send(tcp(flags))
    assert len(own.events()) == 0


def test_a_client_whose_connection_and_template_meet_in_a_set_has_both(small: World) -> None:
    """One in SIZE / 4 connections does; found by stories."""
    small.apply(replace(SERVICES[0], scheduler="rr", persistent_s=300))
    for first in range(1000, 41_000, 40):
        home = small.real_of(tcp("S", first))
        assert small.real_of(tcp("S", first + 1)) == home, first
        assert small.real_of(tcp("A", first)) == home, first
        small.forget_connections()
