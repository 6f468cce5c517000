"""Tagged frames: served as others are, and they leave with the tags they came with."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.packet.world import (
    CLIENT,
    CLIENT_MAC,
    OUR_MAC,
    VIRTUAL,
    World,
    dropped,
    gated,
    mac_of,
    passed,
    real,
    tcp,
    udp,
)

TAGS: dict[str, Packet] = {
    "802.1Q": Dot1Q(vlan=5),
    "802.1Q, with a priority and no VLAN": Dot1Q(vlan=0, prio=7),
    "802.1Q, every bit": Dot1Q(vlan=4095, prio=7, dei=1),
    "802.1ad": Dot1AD(vlan=100),
    "802.1Q in 802.1ad": Dot1AD(vlan=100) / Dot1Q(vlan=5),
    "802.1Q twice": Dot1Q(vlan=100) / Dot1Q(vlan=5),
}
every_tag = pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)


def tagged(frame: bytes, tags: Packet) -> bytes:
    """The frame with these tags behind its MACs."""
    made = Ether(dst=frame[:6].hex(":"), src=frame[6:12].hex(":")) / tags.copy()
    made.lastlayer().type = int.from_bytes(frame[12:14], "big")
    return bytes(made / Raw(frame[14:]))


@every_tag
def test_a_connections_packets_keep_their_tags(world: World, tags: Packet) -> None:
    world.apply_reals(real(1))
    for flags in ("S", "A", "PA", "FA"):
        frame = tagged(tcp(flags), tags)
        with world.counting(tx_packets=1):
            assert world.send(frame) == gated(frame, mac_of(1))
    frame = tagged(udp(), tags)
    with world.counting(tx_packets=1):
        assert world.send(frame) == gated(frame, mac_of(1))


def test_a_tag_byte_by_byte(world: World) -> None:
    world.apply_reals(real(1))
    plain = tcp()
    verdict, out = world.send(plain[:12] + bytes.fromhex("88a8e064 8100 0005") + plain[12:])
    assert (verdict, out[:6], out[6:12]) == (3, mac_of(1), bytes.fromhex("020000000001"))
    assert out[12:20].hex() == "88a8e06481000005"
    assert out[20:] == plain[12:]


def test_a_virtual_is_the_same_in_every_vlan(world: World) -> None:
    """What a connection is does not depend on tags; they are the switch's business."""
    first = tcp()
    number = world.real_of(first)
    for tags in TAGS.values():
        assert world.send(tagged(tcp("A"), tags))[1][:6] == mac_of(number)
    assert len(world.entries()) == 1


@every_tag
def test_cut_anywhere(world: World, tags: Packet) -> None:
    frame = tagged(tcp(), tags)
    address_known = len(frame) - len(tcp()) + 14 + 20
    for length in range(14, len(frame)):
        cut = frame[:length]
        if length < address_known:
            with world.counting():
                assert world.send(cut) == passed(cut)
        else:
            with world.counting(drop_malformed=1):
                assert world.send(cut) == dropped(cut)


@every_tag
def test_arp_in_a_vlan_is_answered_by_who_has_the_lease(world: World, tags: Packet) -> None:
    question = tagged(bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=CLIENT_MAC) / ARP(psrc=CLIENT, pdst=str(VIRTUAL))), tags)
    with world.counting(arp_no_lease=1):
        assert world.send(question) == dropped(question)
    world.data.renew_lease(60)
    with world.counting(passed=1):
        assert world.send(question) == passed(question)


@every_tag
def test_so_is_an_echo(world: World, tags: Packet) -> None:
    echo = tagged(bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / IP(src=CLIENT, dst=str(VIRTUAL)) / ICMP()), tags)
    with world.counting(drop_no_lease=1):
        assert world.send(echo) == dropped(echo)
    world.data.renew_lease(60)
    with world.counting(passed=1):
        assert world.send(echo) == passed(echo)
