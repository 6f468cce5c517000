"""The announcement's frames, byte for byte, with scapy as the judge."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.l2 import ARP, Dot1Q, Ether

from ha.takeover import ANNOUNCE_AT_S, announcement_frames, arp_announcement, tagged
from lb.addresses import Address

MAC = bytes.fromhex("02aabbccddee")
ADDRESS = IPv4Address("192.168.1.105")


@pytest.mark.parametrize(
    ("operation", "target"), [(1, "00:00:00:00:00:00"), (2, "02:aa:bb:cc:dd:ee")], ids=["request", "reply"]
)
def test_frame_is_what_scapy_makes(operation: int, target: str) -> None:
    expected = Ether(dst="ff:ff:ff:ff:ff:ff", src="02:aa:bb:cc:dd:ee", type=0x0806) / ARP(
        op=operation, hwsrc="02:aa:bb:cc:dd:ee", psrc=str(ADDRESS), hwdst=target, pdst=str(ADDRESS)
    )
    assert arp_announcement(operation, MAC, ADDRESS) == bytes(expected)


def test_a_round_is_the_request_and_the_reply() -> None:
    assert [Ether(frame)[ARP].op for frame in announcement_frames(MAC, ADDRESS)] == [1, 2]


@pytest.mark.parametrize("address", [ADDRESS, IPv6Address("2001:db8::105")], ids=["ARP", "neighbour discovery"])
def test_in_a_vlan_it_is_the_same_with_a_tag(address: Address) -> None:
    for frame in announcement_frames(MAC, address):
        plain = Ether(frame)
        expected = Ether(src=plain.src, dst=plain.dst) / Dot1Q(vlan=4094, type=plain.type) / plain.payload
        assert tagged(frame, 4094) == bytes(expected)


def test_rounds_begin_at_once_and_end_within_seconds() -> None:
    assert ANNOUNCE_AT_S[0] == 0
    assert list(ANNOUNCE_AT_S) == sorted(set(ANNOUNCE_AT_S))
    assert 2 <= ANNOUNCE_AT_S[-1] <= 10
