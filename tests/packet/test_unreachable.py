"""A connection that nobody can take: its client is told at once that the port is unreachable."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

from lb import abi, bpf
from tests.packet.world import CLIENT, CLIENT_MAC, OUR_MAC, VIRTUAL, World, dropped, gated, mac_of, real, tcp, udp

ETHER = Ether(dst=OUR_MAC, src=CLIENT_MAC)
TO_VIRTUAL = IP(src=CLIENT, dst=str(VIRTUAL))


@pytest.fixture
def deserted(world: World) -> World:
    """No real is usable, and the lease holds."""
    world.apply_reals(real(1, weight=0))
    world.data.renew_lease(600)
    return world


@pytest.mark.parametrize("frame", [tcp(), udp()], ids=["tcp", "udp"])
def test_the_client_is_told(deserted: World, frame: bytes) -> None:
    with deserted.counting(unreachable=1):
        verdict, out = deserted.send(frame)
    assert verdict == bpf.TX
    told = Ether(out)
    assert (told.src, told.dst, told[IP].src, told[IP].dst) == (OUR_MAC, CLIENT_MAC, str(VIRTUAL), CLIENT)
    assert (told[ICMP].type, told[ICMP].code, out[38:42]) == (3, 3, bytes(4))
    assert out[14 + 20 + 8 :] == frame[14 : 14 + 28], "IP header and eight bytes"
    again = IP(out[14:])
    del again[IP].chksum
    del again[ICMP].chksum
    assert bytes(again) == out[14:], "the checksums are right"
    assert deserted.entries() == []


def test_byte_by_byte(deserted: World) -> None:
    frame = bytes.fromhex(
        "020000000001 020000000002 08004500 0020 1234 4000 4011 0000 0a000001 c000020a03e8 0035 000c 0000 64617461"
    )
    assert deserted.send(frame) == (
        bpf.TX,
        bytes.fromhex(
            "020000000002 020000000001 0800"
            "45c0 0038 0000 4000 4001 6dfa c000020a 0a000001"
            "0303 5562 00000000"
            "4500 0020 1234 4000 4011 0000 0a000001 c000020a 03e8 0035 000c 0000"
        ),
    )


@pytest.mark.parametrize("tags", [Dot1Q(vlan=5), Dot1AD(vlan=9) / Dot1Q(vlan=5)], ids=["one tag", "two tags"])
def test_in_a_vlan(deserted: World, tags: Packet) -> None:
    frame = bytes(ETHER / tags / TO_VIRTUAL / UDP(sport=1000, dport=53) / b"data")
    verdict, out = deserted.send(frame)
    assert (verdict, out[:12]) == (bpf.TX, frame[6:12] + frame[:6])
    header = len(bytes(ETHER / tags))
    assert out[12:header] == frame[12:header]
    assert IP(out[header:])[ICMP].code == 3


def test_not_without_a_lease(deserted: World) -> None:
    deserted.data.renew_lease(0)
    with deserted.counting(drop_no_real=1):
        assert deserted.send(tcp()) == dropped(tcp())


@pytest.mark.parametrize("client", ["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_nobody_who_is_not_one_host(deserted: World, client: str) -> None:
    frame = tcp(client=client)
    with deserted.counting(drop_no_real=1):
        assert deserted.send(frame)[0] == bpf.DROP


def test_so_many_in_a_tick(deserted: World) -> None:
    """The test may run across one."""
    frame = tcp()
    before = deserted.data.counters()
    for _ in range(2 * abi.ANSWERS_A_TICK + 1):
        deserted.send(frame)
    after = deserted.data.counters()
    assert 1 <= after["drop_no_real"] - before["drop_no_real"] <= abi.ANSWERS_A_TICK + 1


def test_known_connections_go_on(deserted: World) -> None:
    deserted.apply_reals(real(1))
    deserted.send(tcp())
    deserted.apply_reals(real(1, weight=0))
    assert deserted.send(tcp("A")) == gated(tcp("A"), mac_of(1))
    assert deserted.send(bytes(ETHER / TO_VIRTUAL / TCP(sport=7, dport=80, flags="S")))[0] == bpf.TX
