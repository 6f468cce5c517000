"""A connection over IPv6 that nobody can take: its client is told at once that the port is unreachable."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Dot1Q, Ether

from lb import bpf
from lb.service import Service
from tests.packet.world import (
    CLIENT6,
    CLIENT_MAC,
    OUR_MAC,
    TCP6_KEY,
    UDP6_KEY,
    VIRTUAL6,
    World,
    dropped,
    in_ipv6,
    real6,
    tcp6,
)

ETHER = Ether(dst=OUR_MAC, src=CLIENT_MAC)


@pytest.fixture
def deserted6(again: World) -> World:
    """No real is usable, and the lease holds."""
    again.apply(*(Service(key, "rr", (real6(1, weight=0),)) for key in (TCP6_KEY, UDP6_KEY)))
    again.data.renew_lease(600)
    return again


ROOM = 1280 - 40 - 8
"""For what is quoted."""


@pytest.mark.parametrize("size", [0, 1, 2, 3, 600, ROOM - 48 - 1, ROOM - 48, ROOM - 48 + 1, 1400])
def test_the_client_is_told_over_ipv6(deserted6: World, size: int) -> None:
    """As much as fits is quoted, and no padding."""
    frame = in_ipv6(UDP(sport=1000, dport=53) / bytes(n % 251 for n in range(size)))
    with deserted6.counting(unreachable=1):
        verdict, out = deserted6.send(frame + bytes(3))
    assert verdict == bpf.TX
    told = Ether(out)
    assert (told.src, told.dst, told[IPv6].src, told[IPv6].dst) == (OUR_MAC, CLIENT_MAC, str(VIRTUAL6), CLIENT6)
    assert (told[ICMPv6DestUnreach].code, out[14 + 40 + 4 : 14 + 40 + 8]) == (4, bytes(4))
    assert out[14 + 40 + 8 :] == frame[14 : 14 + ROOM]
    again = IPv6(out[14:])
    del again[ICMPv6DestUnreach].cksum
    assert bytes(again) == out[14:], "the checksum is right"


def test_byte_by_byte_over_ipv6(deserted6: World) -> None:
    addresses = "20010db8000c00000000000000000001", "20010db8000000000000000000000010"
    quoted = f"60000000 0009 11 40 {' '.join(addresses)} 03e8 0035 0009 0000 61"
    assert deserted6.send(bytes.fromhex(f"020000000001 020000000002 86dd {quoted}")) == (
        bpf.TX,
        bytes.fromhex(
            f"020000000002 020000000001 86dd 60000000 0039 3a 40 {' '.join(reversed(addresses))}"
            f"0104 70fa 00000000 {quoted}"
        ),
    )


def test_a_syn_over_ipv6_in_a_vlan(deserted6: World) -> None:
    frame = bytes(ETHER / Dot1Q(vlan=5) / IPv6(src=CLIENT6, dst=str(VIRTUAL6)) / TCP(sport=7, dport=80, flags="S"))
    verdict, out = deserted6.send(frame)
    assert (verdict, out[:12], out[12:18]) == (bpf.TX, frame[6:12] + frame[:6], frame[12:18])
    assert IPv6(out[18:])[ICMPv6DestUnreach].code == 4


@pytest.mark.parametrize("client", ["::", "::1", "ff02::1"])
def test_nobody_who_is_not_one_host_of_ipv6(deserted6: World, client: str) -> None:
    with deserted6.counting(drop_no_real=1):
        assert deserted6.send(tcp6(client=client))[0] == bpf.DROP


def test_not_without_a_lease_over_ipv6(deserted6: World) -> None:
    deserted6.data.renew_lease(0)
    with deserted6.counting(drop_no_real=1):
        assert deserted6.send(tcp6()) == dropped(tcp6())
