"""Virtual addresses at a MAC of their own: frames to it are served, none leaves from it, who claims it is a rival."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from lb import bpf
from lb.service import Service
from tests.packet.world import (
    CLIENT,
    CLIENT_MAC,
    OUR_MAC,
    TCP6_KEY,
    TCP_KEY,
    VIRTUAL,
    World,
    dropped,
    mac_of,
    passed,
    real,
    real6,
    tcp,
    tcp6,
    tunnelled,
)

VIRTUAL_MAC = bytes.fromhex("00005e000169")
MAC = bytes.fromhex(OUR_MAC.replace(":", ""))


@pytest.fixture
def placed(world: World) -> Iterator[World]:
    """One whose addresses are at VIRTUAL_MAC."""
    world.data.virtual_mac = VIRTUAL_MAC
    world.apply(Service(TCP_KEY, "rr", (real(1),)), Service(TCP6_KEY, "rr", (real6(1),)))
    yield world
    world.data.virtual_mac = b""


def sent_to(frame: bytes, mac: bytes = VIRTUAL_MAC) -> bytes:
    return mac + frame[6:]


@pytest.mark.parametrize("frame", [tcp(), tcp6()], ids=["IPv4", "IPv6"])
def test_frames_to_either_mac_are_served_and_leave_from_the_interfaces(placed: World, frame: bytes) -> None:
    for came in (frame, sent_to(frame)):
        with placed.counting(tx_packets=1):
            assert placed.send(came) == (bpf.TX, mac_of(1) + MAC + frame[12:])


def test_in_a_vlan(placed: World) -> None:
    frame = bytes(
        Ether(dst=VIRTUAL_MAC.hex(":"), src=CLIENT_MAC)
        / Dot1Q(vlan=7)
        / IP(src=CLIENT, dst=str(VIRTUAL))
        / TCP(sport=1000, dport=80, flags="S")
    )
    assert placed.send(frame) == (bpf.TX, mac_of(1) + MAC + frame[12:])


def test_by_a_tunnel(placed: World) -> None:
    placed.apply(Service(TCP_KEY, "rr", (tunnelled(1),)))
    verdict, out = placed.send(sent_to(tcp()))
    assert (verdict, out[:12]) == (bpf.TX, mac_of(1) + MAC)


def test_what_is_refused_is_answered_from_the_interfaces_mac(placed: World) -> None:
    placed.data.renew_lease(60.0)
    placed.apply(Service(TCP_KEY, "rr", ()))
    client = bytes.fromhex(CLIENT_MAC.replace(":", ""))
    with placed.counting(unreachable=1):
        assert placed.send(sent_to(tcp()))[1][:12] == client + MAC


def test_what_the_kernel_gets_is_as_it_came(placed: World) -> None:
    """Its device with the virtual MAC takes it."""
    frame = sent_to(tcp(dport=81))
    with placed.counting(passed=1):
        assert placed.send(frame) == passed(frame)


def test_what_is_referred_leaves_from_the_interfaces_mac(placed: World) -> None:
    director = mac_of(9)
    placed.data.renew_lease(60.0)
    placed.data.refer_to([director], 60.0)
    frame = sent_to(tcp("A"))
    with placed.counting(referred=1):
        assert placed.send(frame) == (bpf.TX, director + MAC + frame[12:])


def test_who_claims_an_address_at_the_virtual_mac_is_another_director(placed: World) -> None:
    def arp(**fields: Any) -> bytes:
        return bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=CLIENT_MAC) / ARP(op=1, **fields))

    question = arp(psrc=CLIENT, pdst=str(VIRTUAL))
    placed.data.renew_lease(60.0)
    assert placed.send(question) == passed(question)
    claim = arp(hwsrc=VIRTUAL_MAC.hex(":"), psrc=str(VIRTUAL), pdst=str(VIRTUAL))
    assert placed.send(claim) == passed(claim)
    with placed.counting(arp_no_lease=1):
        assert placed.send(question) == dropped(question)


def test_without_one_it_is_somebody_elses_mac(world: World) -> None:
    world.apply(Service(TCP_KEY, "rr", (real(1),)))
    frame = sent_to(tcp())
    with world.counting():
        assert world.send(frame) == passed(frame)
