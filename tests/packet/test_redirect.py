"""A director with two interfaces: packets come in by one and leave by another, with all their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP

from lb import bpf
from lb.service import Destination, Way
from tests.packet.test_tunnel import segment
from tests.packet.world import (
    CLIENT,
    CLIENT_MAC,
    INTERFACE,
    NODE,
    OUR_MAC,
    VIRTUAL,
    World,
    add_interface,
    attached_program,
    mac_of,
    network_namespace,
    real,
    remove_interface,
    tcp,
    tunnelled,
)

CAME_BY = 1
"""Test runs come in by `lo`, whose index is that."""
OTHER = 7
SECOND, SECOND_MAC = "lbt1", "02:00:00:00:00:11"
OUT_MAC = bytes.fromhex("020000000077")


def by(interface: int, destination: Destination, mtu: int = 1500) -> Destination:
    """Reached by an interface."""
    return replace(destination, way=Way(IPv4Address("192.0.2.1"), mtu, interface, OUT_MAC))


@pytest.fixture(scope="module")
def loaded() -> Iterator[World]:
    """On two interfaces."""
    with network_namespace():
        add_interface(SECOND, SECOND_MAC)
        world = World.open(interfaces=[INTERFACE, SECOND])
        try:
            world.apply_reals(tunnelled(1))
            yield world
        finally:
            world.close()


@pytest.fixture
def two(loaded: World) -> World:
    """The same with no connections and no reals."""
    loaded.apply_reals()
    loaded.forget()
    return loaded


def test_every_byte_by_another_interface(two: World) -> None:
    two.apply_reals(by(OTHER, real(1)))
    with two.counting(redirected=2):
        assert two.send(tcp()) == (bpf.REDIRECT, mac_of(1) + OUT_MAC + tcp()[12:])
        assert two.send(tcp("A")) == (bpf.REDIRECT, mac_of(1) + OUT_MAC + tcp("A")[12:])


@pytest.mark.parametrize("interface", [0, CAME_BY])
def test_out_where_it_came_in(two: World, interface: int) -> None:
    two.apply_reals(by(interface, real(1)))
    ours = bytes.fromhex(OUR_MAC.replace(":", ""))
    with two.counting(tx_packets=1):
        assert two.send(tcp()) == (bpf.TX, mac_of(1) + ours + tcp()[12:])


def test_frames_to_either_interface_are_ours(two: World) -> None:
    two.apply_reals(real(1))
    second = bytes.fromhex(SECOND_MAC.replace(":", ""))
    assert two.send(second + tcp()[6:]) == (bpf.TX, mac_of(1) + second + tcp()[12:])
    stranger = mac_of(9) + tcp()[6:]
    assert two.send(stranger) == (bpf.PASS, stranger)


def test_a_tunnel_by_another_interface(two: World) -> None:
    two.apply_reals(by(OTHER, tunnelled(1)))
    verdict, out = two.send(tcp())
    assert (verdict, out[:12], out[34:]) == (bpf.REDIRECT, mac_of(1) + OUT_MAC, tcp()[14:])
    assert (IP(out[14:34]).src, IP(out[14:34]).dst) == ("192.0.2.1", "198.51.100.101")


@pytest.mark.parametrize(("forward", "mtu"), [("gate", 1400), ("ipip", 1380)])
def test_what_is_too_big_for_the_other_interface(two: World, forward: str, mtu: int) -> None:
    two.apply_reals(by(OTHER, real(1) if forward == "gate" else tunnelled(1), mtu=1400))
    with two.counting(redirected=1, too_big=1):
        assert two.send(segment(mtu))[0] == bpf.REDIRECT
        verdict, out = two.send(segment(mtu + 1))
    answer = IP(out[14:])
    assert (verdict, out[:6]) == (bpf.TX, bytes.fromhex(CLIENT_MAC.replace(":", "")))
    assert (answer.src, answer.dst, answer[ICMP].nexthopmtu) == (str(VIRTUAL), CLIENT, mtu)


def test_a_row_that_another_real_had_says_nothing_of_its_way(two: World) -> None:
    two.apply_reals(by(OTHER, real(1)))
    two.apply_reals()
    two.forget()
    two.apply_reals(real(2))
    assert two.send(tcp())[0] == bpf.TX


def test_the_program_is_on_both_and_leaves_one_that_is_not_wanted_any_more() -> None:
    with network_namespace():
        add_interface(SECOND, SECOND_MAC)
        world = World.open(f"{NODE}.own", interfaces=[INTERFACE, SECOND])
        try:
            world.apply_reals(real(1))
            assert world.data.modes == {INTERFACE: "native", SECOND: "native"}
            assert attached_program() == attached_program(SECOND) is not None
            world.data.close(detach=False)
            assert attached_program(SECOND)
            world.data = World.open(world.node).data
            world.apply_reals(real(1))
            assert attached_program()
            assert attached_program(SECOND) is None
        finally:
            world.close()


def test_an_interface_that_is_made_anew_gets_the_program_again() -> None:
    with network_namespace():
        add_interface(SECOND, SECOND_MAC)
        world = World.open(f"{NODE}.own", interfaces=[INTERFACE, SECOND])
        try:
            world.apply_reals(real(1))
            remove_interface(SECOND)
            add_interface(SECOND, SECOND_MAC)
            world.apply_reals(real(1))
            assert attached_program() == attached_program(SECOND) is not None
        finally:
            world.close()
