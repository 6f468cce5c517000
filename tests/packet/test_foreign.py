"""What is not a virtual's packet goes on to the kernel: not a byte is changed, nothing is counted or remembered."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from lb.service import Service
from tests.packet.world import CLIENT, CLIENT_MAC, OUR_MAC, TCP_KEY, VIRTUAL, World, passed, real, tcp, udp

ETHER = Ether(dst=OUR_MAC, src=CLIENT_MAC)
TO_VIRTUAL = IP(src=CLIENT, dst=str(VIRTUAL))
SYN = TCP(sport=1000, dport=80, flags="S")

FOREIGN = {
    "another address": tcp(virtual="192.0.2.11"),
    "a neighbour in the address space": tcp(virtual="192.0.3.10"),
    "UDP to another address": udp(virtual="192.0.2.9"),
    "another host's MAC": bytes(Ether(dst="02:00:00:00:00:03", src=CLIENT_MAC) / TO_VIRTUAL / SYN),
    "our MAC but for the last bit": bytes(Ether(dst="02:00:00:00:00:00", src=CLIENT_MAC) / TO_VIRTUAL / SYN),
    "broadcast": bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=CLIENT_MAC) / TO_VIRTUAL / SYN),
    "multicast": bytes(Ether(dst="01:00:5e:00:00:12", src=CLIENT_MAC) / TO_VIRTUAL / SYN),
    "ICMP to another address": bytes(ETHER / IP(src=CLIENT, dst="192.0.2.11") / ICMP()),
    "ICMP to another host's MAC": bytes(Ether(dst="02:00:00:00:00:03", src=CLIENT_MAC) / TO_VIRTUAL / ICMP()),
    "three VLAN tags": bytes(ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / Dot1Q(vlan=7) / TO_VIRTUAL / SYN),
    "another address in a VLAN": bytes(ETHER / Dot1Q(vlan=5) / IP(src=CLIENT, dst="192.0.2.11") / SYN),
    "another host's MAC in a VLAN": bytes(Ether(dst="02:00:00:00:00:03") / Dot1Q(vlan=5) / TO_VIRTUAL / SYN),
    "IPv6 in a VLAN": bytes(ETHER / Dot1Q(vlan=5) / IPv6(src="2001:db8::1", dst="2001:db8::2") / SYN),
    "IPv6": bytes(ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2") / SYN),
    "IPv6 with an extension header": bytes(ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2", nh=0) / bytes(8) / SYN),
    "an ARP request for another address": bytes(ETHER / ARP(op=1, psrc=CLIENT, pdst="192.0.2.11")),
    "an ARP answer about the virtual": bytes(ETHER / ARP(op=2, psrc=CLIENT, pdst=str(VIRTUAL))),
    "an unknown type": bytes(ETHER / b"something else")[:12] + b"\x88\xcc" + bytes(40),
    "SCTP to the virtual": bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), proto=132) / bytes(20)),
}


@pytest.mark.parametrize("frame", FOREIGN.values(), ids=FOREIGN)
def test_passes_untouched_and_uncounted(world: World, frame: bytes) -> None:
    with world.counting():
        assert world.send(frame) == passed(frame)
    assert world.entries() == []


@pytest.mark.parametrize("frame", FOREIGN.values(), ids=FOREIGN)
def test_passes_untouched_when_cut_anywhere(world: World, frame: bytes) -> None:
    with world.counting():
        for length in range(14, len(frame)):
            assert world.send(frame[:length]) == passed(frame[:length])


@pytest.mark.parametrize("frame", [tcp(dport=81), tcp(dport=0), udp(dport=80), tcp(dport=53)])
def test_a_port_that_is_no_service_is_the_kernels(world: World, frame: bytes) -> None:
    """Counted, since it came to a virtual address."""
    with world.counting(passed=1):
        assert world.send(frame) == passed(frame)


def test_udp_to_an_address_with_tcp_only_is_foreign(own: World) -> None:
    own.apply(Service(TCP_KEY, "rr", (real(1),)))
    frame = bytes(ETHER / TO_VIRTUAL / UDP(sport=1, dport=80))
    with own.counting():
        assert own.send(frame) == passed(frame)


def test_no_services_at_all(own: World) -> None:
    own.apply()
    with own.counting():
        assert own.send(tcp()) == passed(tcp())
    assert own.data.held() == ()
