"""Fragments: all of a datagram go where its first one goes, in whatever order they come."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from lb import abi, bpf
from lb.datapath.fragments import Fragments
from tests.packet.world import (
    CLIENT,
    CLIENT_MAC,
    INTERFACE,
    OUR_MAC,
    VIRTUAL,
    World,
    dropped,
    gated,
    local,
    mac_of,
    passed,
    real,
    udp,
)

ETHER = Ether(dst=OUR_MAC, src=CLIENT_MAC)
PADDED = 8
"""A frame that is set aside is made longer, to whole words of so many bytes."""


def pieces(number: int = 7, port: int = 1000, segment: Packet | None = None, client: str = CLIENT) -> list[bytes]:
    """Three fragments, the first one first. number: the identification."""
    datagram = UDP(sport=port, dport=53) if segment is None else segment
    found = cut(IP(src=client, dst=str(VIRTUAL), id=number) / datagram / bytes(range(120)), 48)
    assert len(found) == 3
    return found


def cut(whole: Packet, size: int) -> list[bytes]:
    """Its fragments, with so many bytes behind each IP header."""
    return [bytes(ETHER / piece) for piece in fragment(whole, fragsize=size)]  # type: ignore[no-untyped-call]


def set_aside(frame: bytes) -> tuple[int, bytes]:
    """Verdict and bytes of one that came too early."""
    return bpf.DROP, frame + bytes(-len(frame) % PADDED)


def key(number: int = 7, protocol: int = 17) -> bytes:
    """The datagram's, as the ring names it."""
    mapped = bytes(10) + b"\xff\xff"
    addresses = mapped + bytes((10, 0, 0, 1)) + mapped + bytes((192, 0, 2, 10))
    return addresses + number.to_bytes(4, "big") + bytes((protocol, 0, 0, 0))


def test_in_order(world: World) -> None:
    others = {world.real_of(udp(port)) for port in (1, 2)}
    assert others == {1, 2}
    first, *later = pieces()
    number = world.real_of(first)
    for frame in later:
        with world.counting(tx_packets=1):
            assert world.send(frame) == gated(frame, mac_of(number))
    assert world.data.read_earlies() == []
    assert [int(entry["client_port"]) for entry, _ in world.entries()].count(1000) == 1


def test_the_first_of_a_known_connection_leads_there(world: World) -> None:
    for port in range(1000, 1010):
        number = world.real_of(udp(port))
        for frame in pieces(port, port):
            assert world.send(frame) == gated(frame, mac_of(number))


def test_a_first_fragment_byte_by_byte(world: World) -> None:
    """Its UDP length is the datagram's, more than it has itself."""
    world.apply_reals(real(1))
    first = bytes.fromhex(
        "020000000001 020000000002 0800"
        "4500 0024 0007 2000 4011 0000 0a000001 c000020a"  # id 7, more fragments
        "03e8 0035 0018 0000 0001020304050607"
    )
    last = bytes.fromhex(
        "020000000001 020000000002 0800"
        "4500 001c 0007 0002 4011 0000 0a000001 c000020a"  # from byte 16 on
        "08090a0b0c0d0e0f"
    )
    for frame in (first, last):
        assert world.send(frame) == (3, bytes.fromhex("020000000101 020000000001") + frame[12:])


def test_early_ones_are_set_aside_and_called(world: World) -> None:
    first, second, third = pieces()
    for frame in (third, second):
        with world.counting(set_aside=1):
            assert world.send(frame) == set_aside(frame)
    assert world.data.read_earlies() == [(key(), third), (key(), second)]
    assert not world.data.first_has_come(key())
    number = world.real_of(first)
    assert world.data.read_earlies() == [(key(), b"")]
    assert world.data.first_has_come(key())
    for frame in (third, second):
        assert world.data.run(frame) == gated(frame, mac_of(number))
    assert world.data.read_earlies() == []


@pytest.mark.parametrize("length", range(35, 60))
def test_set_aside_whole_whatever_its_length(world: World, length: int) -> None:
    data = bytes(range(length - 34))
    frame = bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), id=7, frag=1, proto=17) / data)
    assert len(frame) == length
    assert world.send(frame) == set_aside(frame)
    assert world.data.read_earlies() == [(key(), frame)]


@pytest.mark.parametrize(("length", "fits"), [(1514, True), (abi.EARLY_BYTES, True), (abi.EARLY_BYTES + 1, False)])
def test_a_large_one(world: World, length: int, fits: bool) -> None:
    data = bytes(n % 251 for n in range(length - 34))
    frame = bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), id=7, frag=1, proto=17) / data)
    assert world.send(frame) == (set_aside(frame) if fits else dropped(frame))
    assert world.data.read_earlies() == ([(key(), frame)] if fits else [])


def test_nobody_is_called_twice(world: World) -> None:
    first, second, third = pieces()
    world.send(second)
    world.send(first)
    assert len(world.data.read_earlies()) == 2
    for frame in (first, second, third, first):
        world.real_of(frame)
    assert world.data.read_earlies() == []


def test_datagrams_are_told_apart(world: World) -> None:
    """By client, virtual, identification and protocol; each of these leads elsewhere."""
    numbers = {}
    for place, (client, number) in enumerate(itertools.product((CLIENT, "10.0.0.2"), (7, 8))):
        numbers[client, number] = world.real_of(pieces(number, 1000 + place, client=client)[0])
    assert set(numbers.values()) == {1, 2}
    for client, number in numbers:
        assert world.real_of(pieces(number, client=client)[1]) == numbers[client, number]
    tcp_piece = pieces(segment=TCP(sport=1000, dport=80, flags="A"))[1]
    assert world.send(tcp_piece) == set_aside(tcp_piece)
    assert world.data.read_earlies() == [(key(protocol=6), tcp_piece)]


def test_a_segment_in_fragments(world: World) -> None:
    opening, *_ = pieces(1, segment=TCP(sport=1000, dport=80, flags="S"))
    number = world.real_of(opening)
    for frame in pieces(2, segment=TCP(sport=1000, dport=80, flags="PA")):
        assert world.send(frame) == gated(frame, mac_of(number))


def test_an_identification_that_comes_again(world: World) -> None:
    """The first of the new datagram leads its later ones, wherever the old one went."""
    old, new = pieces(port=1000), pieces(port=1001)
    one = world.real_of(old[0])
    other = world.real_of(new[0])
    assert {one, other} == {1, 2}
    assert world.real_of(new[1]) == other


def test_after_a_while_it_is_another_datagram(world: World) -> None:
    first, second, _ = pieces()
    world.real_of(first)
    ((entry, value),) = [
        (k.copy(), v.copy()) for ks, vs in world.maps["datagrams"].batches() for k, v in zip(ks, vs, strict=True)
    ]
    value["seen_t"] -= abi.ticks(abi.FRAGMENT_TIMEOUT_S) + 1
    world.maps["datagrams"].update(entry.reshape(1), value.reshape(1))
    assert not world.data.first_has_come(key())
    assert world.send(second) == set_aside(second)


def test_followers_of_one_that_is_dropped(world: World) -> None:
    world.apply_reals()
    first, second, _ = pieces()
    with world.counting(drop_no_real=1, drop_fragment=1):
        assert world.send(first) == dropped(first)
        assert world.send(second) == dropped(second)


def test_followers_of_one_that_is_the_kernels(world: World) -> None:
    """Of a port that is no service, and of the fallback that is this director."""
    first, second, third = pieces(segment=UDP(sport=1000, dport=54))
    with world.counting(passed=3):
        for frame in (first, second, third):
            assert world.send(frame) == passed(frame)
    world.apply_reals(fallback=local())
    with world.counting(passed=3):
        for frame in pieces(8):
            assert world.send(frame) == passed(frame)


def test_in_a_vlan(world: World) -> None:
    first, second, third = (
        bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / Dot1Q(vlan=5, type=0x0800) / frame[14:]) for frame in pieces()
    )
    assert world.send(third) == set_aside(third)
    number = world.real_of(first)
    assert world.real_of(second) == number
    assert world.data.read_earlies() == [(key(), third), (key(), b"")]


def test_a_first_fragment_too_small_for_ports_is_malformed(world: World) -> None:
    whole = IP(src=CLIENT, dst=str(VIRTUAL), id=7) / TCP(dport=80) / bytes(40)
    tiny, *_ = cut(whole, 16)
    with world.counting(drop_malformed=1):
        assert world.send(tiny) == dropped(tiny)


def test_one_that_begins_within_the_first_is_dropped(world: World) -> None:
    """RFC 1858: it could write over what the first one's real was chosen by."""
    first, *_ = pieces(segment=TCP(sport=1000, dport=80, flags="S"))
    number = world.real_of(first)
    over, behind = (
        bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), id=7, frag=at, proto=6) / bytes(16)) for at in (1, 6)
    )
    with world.counting(drop_fragment=1):
        assert world.send(over) == dropped(over)
    assert world.real_of(behind) == number


def test_a_flood_of_early_ones_is_bounded(world: World) -> None:
    """Within a tick; the test may run across one."""
    frames = [pieces(number)[1] for number in range(1, 2 * abi.EARLY_A_TICK + 2)]
    before = world.data.counters()
    for frame in frames:
        assert world.send(frame)[0] == bpf.DROP
    after = world.data.counters()
    assert 1 <= after["drop_fragment"] - before["drop_fragment"] <= abi.EARLY_A_TICK + 1
    assert len(world.data.read_earlies()) <= 2 * abi.EARLY_A_TICK


def test_rows_that_are_freed_lead_nobody(world: World) -> None:
    first, second, _ = pieces()
    world.apply_reals(real(1))
    world.real_of(first)
    world.forget_connections()
    world.apply_reals(real(2))
    for _ in range(2):
        world.data.sweep()
    assert world.send(second) == set_aside(second)


@pytest.fixture
def wire() -> Iterator[socket.socket]:
    """The other end of the director's cable."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as heard:
        heard.bind((f"{INTERFACE}p", 0))
        heard.settimeout(5)
        yield heard


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_every_order_arrives(world: World, wire: socket.socket, order: tuple[int, ...]) -> None:
    """What the program sends out, and what user space sends after it, is the datagram, all for one real."""
    frames = pieces()
    sent = []

    async def come() -> None:
        fragments = Fragments(world.data, [INTERFACE])
        try:
            for place in order:
                verdict, out = await asyncio.to_thread(world.send, frames[place])
                if verdict == bpf.TX:
                    sent.append(out)
            sent.extend([await asyncio.to_thread(wire.recv, 2048) for _ in range(order.index(0))])
            assert fragments.lost == 0
        finally:
            fragments.close()

    asyncio.run(come())
    number = sent[0][5]
    assert sorted(sent) == sorted(gated(frame, mac_of(number))[1] for frame in frames)
