"""A virtual's packets that are cut off or contradict themselves are dropped, each under a name."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.l2 import Ether
from scapy.packet import Packet

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

SEGMENTS: dict[str, Packet] = {"tcp": TCP(sport=1000, dport=80, flags="S"), "udp": UDP(sport=1000, dport=53)}
IP_AT = 14
ADDRESS_KNOWN = IP_AT + 20
"""Below this length nobody can say whose packet it is."""


def changed(frame: bytes, at: int, *values: int) -> bytes:
    """The frame with other bytes from an offset on."""
    return frame[:at] + bytes(values) + frame[at + len(values) :]


@pytest.mark.parametrize("frame", [tcp(), udp()], ids=["tcp", "udp"])
def test_cut_anywhere(world: World, frame: bytes) -> None:
    for length in range(14, len(frame)):
        cut = frame[:length]
        if length < ADDRESS_KNOWN:
            with world.counting():
                assert world.send(cut) == passed(cut)
        else:
            with world.counting(drop_malformed=1):
                assert world.send(cut) == dropped(cut)
    assert world.entries() == []


WRONG = {
    "ihl 0": changed(tcp(), IP_AT, 0x40),
    "ihl 4": changed(tcp(), IP_AT, 0x44),
    "ihl 15 beyond the packet": changed(tcp()[: IP_AT + 40], IP_AT, 0x4F),
    "version 6": changed(tcp(), IP_AT, 0x65),
    "total length 0": changed(tcp(), IP_AT + 2, 0, 0),
    "total length below the header": changed(tcp(), IP_AT + 2, 0, 19),
    "total length without TCP": changed(tcp(), IP_AT + 2, 0, 39),
    "total length beyond the frame": changed(tcp(), IP_AT + 2, 0, 48),
    "TCP offset 4": changed(tcp(), IP_AT + 32, 0x40),
    "TCP offset beyond the packet": changed(tcp(), IP_AT + 32, 0xF0),
    "total length without UDP": changed(udp(), IP_AT + 2, 0, 27),
    "UDP length 7": changed(udp(), IP_AT + 24, 0, 7),
    "UDP length beyond the packet": changed(udp(), IP_AT + 24, 0, 16),
}


@pytest.mark.parametrize("frame", WRONG.values(), ids=WRONG)
def test_headers_that_contradict_themselves(world: World, frame: bytes) -> None:
    with world.counting(drop_malformed=1):
        assert world.send(frame) == dropped(frame)
    assert world.entries() == []


@pytest.mark.parametrize("words", range(1, 11))
@pytest.mark.parametrize("segment", SEGMENTS.values(), ids=SEGMENTS)
def test_ip_options_of_every_length(world: World, words: int, segment: Packet) -> None:
    world.apply_reals(real(1))
    options = [IPOption_Router_Alert()] * words
    ip = IP(src=CLIENT, dst=str(VIRTUAL), options=options)
    frame = bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / ip / segment)
    assert frame[IP_AT] & 15 == 5 + words
    with world.counting(tx_packets=1):
        assert world.send(frame) == gated(frame, mac_of(1))
    ((key, _),) = world.entries()
    assert int(key["client_port"]) == 1000
    for length in range(ADDRESS_KNOWN, len(frame)):
        with world.counting(drop_malformed=1):
            assert world.send(frame[:length]) == dropped(frame[:length])


def test_ethernet_padding_is_no_contradiction(world: World) -> None:
    world.apply_reals(real(1))
    frame = bytes(Ether(tcp()[:-7]))
    padded = changed(frame, IP_AT + 2, 0, 40) + bytes(20)
    with world.counting(tx_packets=1):
        assert world.send(padded) == gated(padded, mac_of(1))


def test_do_not_fragment_is_no_fragment(world: World) -> None:
    world.apply_reals(real(1))
    frame = bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / IP(src=CLIENT, dst=str(VIRTUAL), flags="DF") / TCP(dport=80))
    assert world.send(frame) == gated(frame, mac_of(1))
