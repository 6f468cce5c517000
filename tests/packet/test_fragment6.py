"""IPv6 fragments: all of a datagram go where its first one goes, in whatever order they come."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from lb import bpf
from lb.datapath.fragments import Fragments
from lb.service import Service
from tests.packet.world import (
    CLIENT6,
    CLIENT_MAC,
    INTERFACE,
    OUR_MAC,
    TCP6_KEY,
    UDP6_KEY,
    VIRTUAL6,
    World,
    dropped,
    gated,
    in_ipv6,
    local,
    mac_of,
    passed,
    real6,
    udp6,
)

UDP_NUMBER, ICMPV6, OPTIONS = 17, 58, 60
DATAGRAM = UDP(sport=1000, dport=53) / bytes(range(120))


@pytest.fixture
def two(again: World) -> World:
    """Of two reals, in turns."""
    reals = real6(1), real6(2)
    again.apply(Service(TCP6_KEY, "rr", reals), Service(UDP6_KEY, "rr", reals))
    return again


def pieces(
    number: int = 7, datagram: Packet = DATAGRAM, says: int = UDP_NUMBER, client: str = CLIENT6, size: int = 48
) -> list[bytes]:
    """Fragments, the first one first. number: the identification; says: which header the datagram begins with."""
    data = bytes(datagram)
    return [
        piece(data[at : at + size], at, at + size < len(data), number, says, client) for at in range(0, len(data), size)
    ]


def piece(data: bytes, at: int, more: bool, number: int = 7, says: int = UDP_NUMBER, client: str = CLIENT6) -> bytes:
    """One, from this byte of the datagram on."""
    return in_ipv6(IPv6ExtHdrFragment(nh=says, offset=at // 8, m=more, id=number) / data, client)


def set_aside(frame: bytes) -> tuple[int, bytes]:
    """Verdict and bytes of one that came too early; it was made longer, to whole words."""
    return bpf.DROP, frame + bytes(-len(frame) % 8)


def key(number: int = 7, client: str = CLIENT6) -> bytes:
    """The datagram's, as the ring names it."""
    return IPv6Address(client).packed + VIRTUAL6.packed + number.to_bytes(4, "big") + bytes(4)


def test_in_order(two: World) -> None:
    assert {two.real_of(udp6(port)) for port in (1, 2)} == {1, 2}
    first, *later = pieces()
    number = two.real_of(first)
    for frame in later:
        with two.counting(tx_packets=1):
            assert two.send(frame) == gated(frame, mac_of(number))
    assert two.data.read_earlies() == []
    assert [int(entry["client_port"]) for entry, _ in two.entries()].count(1000) == 1


def test_byte_by_byte(two: World) -> None:
    ethernet, addresses = (
        "020000000001 020000000002 86dd",
        "20010db8000c00000000000000000001 20010db8000000000000000000000010",
    )
    first = bytes.fromhex(
        f"{ethernet} 60000000 0018 2c 40 {addresses}"
        "11 00 0001 00001234"  # UDP, from byte 0, more follow
        "03e8 0035 0018 0000 0001020304050607"
    )
    last = bytes.fromhex(f"{ethernet} 60000000 0010 2c 40 {addresses} 11 00 0010 00001234 08090a0b0c0d0e0f")
    for frame in (first, last):
        assert two.send(frame) == (bpf.TX, bytes.fromhex("020000000101 020000000001") + frame[12:])


def test_early_ones_are_set_aside_and_called(two: World) -> None:
    first, second, third = pieces()
    for frame in (third, second):
        with two.counting(set_aside=1):
            assert two.send(frame) == set_aside(frame)
    assert two.data.read_earlies() == [(key(), third), (key(), second)]
    number = two.real_of(first)
    assert two.data.read_earlies() == [(key(), b"")]
    for frame in (third, second):
        assert two.data.run(frame) == gated(frame, mac_of(number))


def test_datagrams_are_told_apart(two: World) -> None:
    """By all 32 bits of the identification and all of the client's address."""
    two.real_of(pieces(0x10007)[0])
    for frame in (pieces(7)[1], pieces(0x20007)[1], pieces(0x10007, client="2001:db8:d::1")[1]):
        assert two.send(frame) == set_aside(frame)
    assert two.send(pieces(0x10007)[1])[0] == bpf.TX


def test_only_the_first_one_says_what_it_is(two: World) -> None:
    """RFC 8200 section 4.5: what the others call the next header is not looked at."""
    number = two.real_of(pieces()[0])
    for frame in (pieces(says=6)[1], pieces(says=OPTIONS)[2]):
        assert two.real_of(frame) == number


@pytest.mark.parametrize(
    "options",
    [IPv6ExtHdrDestOpt(), IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["::1"], segleft=0)],
    ids=["one", "two"],
)
def test_extension_headers_within_the_datagram(two: World, options: Packet) -> None:
    first, *later = pieces(datagram=options / DATAGRAM, says=OPTIONS, size=56)
    number = two.real_of(first)
    for frame in later:
        assert two.real_of(frame) == number
    ((entry, _),) = two.entries()
    assert int(entry["client_port"]) == 1000


def test_extension_headers_before_it(two: World) -> None:
    frames = [
        in_ipv6(
            IPv6ExtHdrHopByHop()
            / IPv6ExtHdrFragment(nh=17, offset=at // 8, m=at == 0, id=7)
            / bytes(DATAGRAM)[at : at + 64]
        )
        for at in (0, 64)
    ]
    number = two.real_of(frames[0])
    assert two.real_of(frames[1]) == number


def test_segments_in_fragments(two: World) -> None:
    opening = TCP(sport=1000, dport=80, flags="S") / bytes(60)
    number = two.real_of(pieces(1, opening, 6)[0])
    for frame in pieces(2, TCP(sport=1000, dport=80, flags="PA") / bytes(60), 6):
        assert two.real_of(frame) == number


def test_one_that_is_whole_leads_nobody(two: World) -> None:
    """RFC 6946: it has nothing to do with others of its identification, whichever came before."""
    first, second, _ = pieces()
    whole = piece(bytes(UDP(sport=1001, dport=53) / b"whole"), 0, more=False)
    number = two.real_of(first)
    assert two.real_of(whole) == 3 - number
    assert two.real_of(second) == number
    for frame in (piece(bytes(DATAGRAM), 0, more=False, number=8), pieces(8)[1]):
        verdict, _ = two.send(frame)
    assert verdict == bpf.DROP


@pytest.mark.parametrize("size", [8, 16])
def test_a_first_one_too_small_for_its_headers_is_malformed(two: World, size: int) -> None:
    """RFC 7112: of a SYN these have no flags."""
    tiny, second, *_ = pieces(datagram=TCP(sport=1000, dport=80, flags="S") / bytes(60), says=6, size=size)
    with two.counting(drop_malformed=1):
        assert two.send(tiny) == dropped(tiny)
    assert two.send(second) == set_aside(second)


@pytest.mark.parametrize("at", [8, 40])
def test_one_that_begins_within_the_first_is_dropped(two: World, at: int) -> None:
    """RFC 5722. Behind options even the ports might else be written over, after the real was chosen by them."""
    first, *_ = pieces(datagram=IPv6ExtHdrDestOpt() / DATAGRAM, says=OPTIONS)
    number = two.real_of(first)
    over = piece(bytes(UDP(sport=1000, dport=22)), at, more=True, says=OPTIONS)
    with two.counting(drop_fragment=1):
        assert two.send(over) == dropped(over)
    behind = piece(bytes(8), 48, more=True, says=OPTIONS)
    assert two.real_of(behind) == number


def test_a_fragment_of_a_fragment_is_malformed(two: World) -> None:
    inner = IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=8) / DATAGRAM
    frame = piece(bytes(inner), 0, more=True, says=44)
    with two.counting(drop_malformed=1):
        assert two.send(frame) == dropped(frame)


def test_what_is_no_services_is_the_kernels(two: World) -> None:
    """A port that nobody serves; a protocol behind options, which only the first fragment knows of; an echo."""
    for number, (datagram, says) in enumerate(
        (
            (UDP(sport=1000, dport=54) / bytes(100), UDP_NUMBER),
            (IPv6ExtHdrDestOpt(nh=132) / bytes(100), OPTIONS),
            (IPv6ExtHdrDestOpt() / ICMPv6EchoRequest(data=bytes(100)), OPTIONS),
            (ICMPv6EchoRequest(data=bytes(100)), ICMPV6),
        )
    ):
        two.data.renew_lease(60)
        for frame in pieces(number, datagram, says):
            assert two.send(frame) == passed(frame)


def test_followers_of_one_that_is_dropped(two: World) -> None:
    two.apply(Service(TCP6_KEY, "rr", ()), Service(UDP6_KEY, "rr", ()))
    first, second, _ = pieces()
    with two.counting(drop_no_real=1, drop_fragment=1):
        assert two.send(first) == dropped(first)
        assert two.send(second) == dropped(second)
    two.apply(Service(TCP6_KEY, "rr", ()), Service(UDP6_KEY, "rr", (), local()))
    for frame in pieces(8):
        assert two.send(frame) == passed(frame)


def test_in_a_vlan(two: World) -> None:
    ether = Ether(dst=OUR_MAC, src=CLIENT_MAC) / Dot1Q(vlan=5, type=0x86DD)
    first, second, third = (bytes(ether / frame[14:]) for frame in pieces())
    assert two.send(third) == set_aside(third)
    number = two.real_of(first)
    assert two.real_of(second) == number
    assert two.data.read_earlies() == [(key(), third), (key(), b"")]


def test_cut_anywhere(two: World) -> None:
    first, later, _ = pieces()
    known = 14 + len(bytes(IPv6()))
    for frame in (first, later):
        with two.counting(drop_malformed=len(frame) - known):
            for length in range(14, len(frame)):
                cut = frame[:length]
                assert two.send(cut) == (passed if length < known else dropped)(cut)


@pytest.fixture
def wire() -> Iterator[socket.socket]:
    """The other end of the director's cable."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD)) as heard:
        heard.bind((f"{INTERFACE}p", 0))
        heard.settimeout(5)
        yield heard


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_every_order_arrives(two: World, wire: socket.socket, order: tuple[int, ...]) -> None:
    """What the program sends out, and what user space sends after it, is the datagram, all for one real."""
    frames = pieces()
    sent = []

    async def come() -> None:
        fragments = Fragments(two.data, [INTERFACE])
        try:
            for place in order:
                verdict, out = await asyncio.to_thread(two.send, frames[place])
                if verdict == bpf.TX:
                    sent.append(out)
            while len(sent) < 3:
                heard = await asyncio.to_thread(wire.recv, 2048)
                if heard[14 + 40 : 14 + 42] == bytes((UDP_NUMBER, 0)):
                    sent.append(heard)
            assert fragments.lost == 0
        finally:
            fragments.close()

    asyncio.run(come())
    number = sent[0][5]
    assert sorted(sent) == sorted(gated(frame, mac_of(number))[1] for frame in frames)
