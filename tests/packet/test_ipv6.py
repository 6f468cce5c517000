"""IPv6 by hand: what is carried and how, byte by byte; who answers for the address; two families side by side."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import numpy as np
import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from lb.connections import CONNECTION6
from lb.service import Service
from lb.tcp import State
from tests.packet.world import (
    CLIENT6,
    CLIENT_MAC,
    OUR_MAC,
    TCP6_KEY,
    TCP_KEY,
    UDP6_KEY,
    VIRTUAL6,
    World,
    dropped,
    gated,
    in_ipv6,
    local,
    mac_of,
    network_namespace,
    passed,
    real,
    real6,
    tcp,
    tcp6,
    udp6,
)

IP_AT = 14
ROUTER = "2001:db8:ff::1"
RIVAL_MAC = "02:00:00:00:0b:ad"
SYN = TCP(sport=1000, dport=80, flags="S")
ETHER = Ether(dst=OUR_MAC, src=CLIENT_MAC)


@pytest.fixture(scope="module")
def loaded6() -> Iterator[World]:
    """IPv6 alone."""
    with network_namespace():
        world = World.open()
        try:
            world.apply(*(Service(key, "rr", ()) for key in (TCP6_KEY, UDP6_KEY)))
            yield world
        finally:
            world.close()


@pytest.fixture
def world6(loaded6: World) -> World:
    """With one real, without connections."""
    loaded6.apply(*(Service(key, "rr", (real6(1),)) for key in (TCP6_KEY, UDP6_KEY)))
    loaded6.forget()
    return loaded6


def test_a_segment_byte_by_byte(world6: World) -> None:
    frame = bytes.fromhex(
        "020000000001 020000000002 86dd"
        "60000000 0014 06 40 20010db8000c00000000000000000001 20010db8000000000000000000000010"
        "03e8 0050 00000001 00000000 50 02 0200 0000 0000"
    )
    with world6.counting(tx_packets=1):
        assert world6.send(frame) == (3, bytes.fromhex("020000000101 020000000001") + frame[12:])
    ((key, entry),) = world6.entries()
    assert key.tobytes() == frame[22:54] + bytes.fromhex("03e8 0050 06 000000")
    assert int(entry["state"]) == State.SYN_RECV
    (service,) = [held for held in world6.data.held() if held.key == TCP6_KEY]
    (held,) = service.destinations
    assert (held.address, held.packets, held.bytes, held.connections) == (real6(1).address, 1, 60, 1)


def test_connections_of_both_protocols_are_told_and_shown(world6: World) -> None:
    for frame in (tcp6("S"), tcp6("A"), udp6(), udp6()):
        assert world6.send(frame) == gated(frame, mac_of(1))
    events, rows = world6.events(), np.sort(world6.rows(), order="protocol")
    assert events.dtype == rows.dtype == CONNECTION6
    assert events["state"].tolist() == [State.ESTABLISHED, State.UDP]
    client, virtual, to = (int(ipaddress.IPv6Address(a)) for a in (CLIENT6, VIRTUAL6, real6(1).address))
    for name, number in (("client", client), ("virtual", virtual), ("real", to)):
        assert rows[name].tolist() == [[number >> 64, number & (1 << 64) - 1]] * 2
    assert rows["virtual_port"].tolist() == [80, 53]


def test_a_known_connection_keeps_its_real(world6: World) -> None:
    """By heart and by the table."""
    world6.apply(Service(TCP6_KEY, "rr", (real6(1), real6(2))), Service(UDP6_KEY, "rr", (real6(1),)))
    chosen = {port: world6.real_of(tcp6("S", port)) for port in range(1000, 1008)}
    assert sorted(chosen.values()) == [1, 1, 1, 1, 2, 2, 2, 2]
    for _ in range(3):
        assert {port: world6.real_of(tcp6("A", port)) for port in chosen} == chosen
    world6.data._maps().raise_epochs()
    assert {port: world6.real_of(tcp6("A", port)) for port in chosen} == chosen


NEARLY = {
    "another client": tcp6("A", client="2001:db8:c::2"),
    "another client's upper half": tcp6("A", client="2001:db8:d::1"),
    "another port": tcp6("A", port=1001),
}


@pytest.mark.parametrize("frame", NEARLY.values(), ids=NEARLY)
def test_every_part_of_a_key_counts(world6: World, frame: bytes) -> None:
    for flags in ("S", "A", "A"):
        world6.send(tcp6(flags))
    with world6.counting(drop_no_lease=1):
        assert world6.send(frame) == dropped(frame)


def test_virtual_addresses_that_share_a_half(own: World) -> None:
    others = [ipaddress.IPv6Address(address) for address in ("2001:db8:1::10", "2001:db8::11")]
    keys = [TCP6_KEY, *(TCP6_KEY._replace(address=address) for address in others)]
    own.apply(*(Service(key, "rr", (real6(number),)) for number, key in enumerate(keys, start=1)))
    for number, key in enumerate(keys, start=1):
        for flags in ("S", "A", "A"):
            assert own.real_of(tcp6(flags, virtual=key.address)) == number
    foreign = tcp6(virtual="2001:db8:1::11")
    with own.counting():
        assert own.send(foreign) == passed(foreign)


# ---------------------------------------------------------------------------------------- extension headers

PADDING = {size: [PadN(optdata=bytes(size))] for size in (0, 12, 100)}
CHAINS: dict[str, Packet] = {
    "hop by hop": IPv6ExtHdrHopByHop(options=PADDING[0]),
    "destination options": IPv6ExtHdrDestOpt(options=PADDING[12]),
    "long destination options": IPv6ExtHdrDestOpt(options=PADDING[100]),
    "a routing header that is done": IPv6ExtHdrRouting(type=2, addresses=["2001:db8::10"], segleft=0),
    "a single fragment": IPv6ExtHdrFragment(offset=0, m=0, id=7),
    "all of them": IPv6ExtHdrHopByHop(options=PADDING[12])
    / IPv6ExtHdrDestOpt(options=PADDING[0])
    / IPv6ExtHdrRouting(type=2, addresses=["2001:db8::10"], segleft=0)
    / IPv6ExtHdrFragment(offset=0, m=0, id=7)
    / IPv6ExtHdrDestOpt(options=PADDING[12]),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("inner", [SYN, UDP(sport=1000, dport=53)], ids=["tcp", "udp"])
def test_what_stands_behind_extension_headers_is_found(world6: World, chain: Packet, inner: Packet) -> None:
    frame = in_ipv6(chain / inner / b"data")
    with world6.counting(tx_packets=1):
        assert world6.send(frame) == gated(frame, mac_of(1))
    ((key, _),) = world6.entries()
    assert int(key["client_port"]) == 1000


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_cut_anywhere(world6: World, chain: Packet) -> None:
    """Below the 40 bytes of the header nobody can say whose it is; from there on it contradicts its own length."""
    frame = in_ipv6(chain / SYN)
    known = IP_AT + 40
    with world6.counting(drop_malformed=len(frame) - known):
        for length in range(IP_AT, len(frame)):
            cut = frame[:length]
            assert world6.send(cut) == (passed if length < known else dropped)(cut)
    assert world6.entries() == []


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_a_payload_length_that_ends_anywhere(world6: World, chain: Packet) -> None:
    frame = in_ipv6(chain / SYN)
    whole = len(frame) - IP_AT - 40
    with world6.counting(drop_malformed=whole):
        for length in range(whole):
            short = frame[: IP_AT + 4] + length.to_bytes(2, "big") + frame[IP_AT + 6 :]
            assert world6.send(short) == dropped(short)


ODD: dict[str, tuple[bytes, str]] = {
    "seven headers": (in_ipv6(CHAINS["hop by hop"] / CHAINS["hop by hop"] / CHAINS["all of them"]), "drop_malformed"),
    "version 4": (b"".join((tcp6()[:IP_AT], b"\x40", tcp6()[IP_AT + 1 :])), "drop_malformed"),
}


@pytest.mark.parametrize(("frame", "counter"), ODD.values(), ids=ODD)
def test_what_is_dropped(world6: World, frame: bytes, counter: str) -> None:
    with world6.counting(**{counter: 1}):
        assert world6.send(frame) == dropped(frame)
    assert world6.entries() == []


FOREIGN = {
    "IPv4": tcp(),
    "another address": tcp6(virtual="2001:db8::11"),
    "another host's MAC": bytes(Ether(dst="02:00:00:00:00:03") / IPv6(src=CLIENT6, dst=str(VIRTUAL6)) / SYN),
    "multicast": bytes(Ether(dst="33:33:00:00:00:01") / IPv6(src=CLIENT6, dst="ff02::1") / SYN),
    "SCTP": in_ipv6(bytes(20), nh=132),
    "no next header": in_ipv6(bytes(20), nh=59),
    "to be routed on": in_ipv6(IPv6ExtHdrRouting(type=0, addresses=["2001:db8::9"], segleft=1) / SYN),
    "a port of an address that ends alike": tcp6(virtual="2001:db8:1::10"),
}


@pytest.mark.parametrize("frame", FOREIGN.values(), ids=FOREIGN)
def test_passes_untouched_and_uncounted(world6: World, frame: bytes) -> None:
    with world6.counting():
        assert world6.send(frame) == passed(frame)
    assert world6.entries() == []


def test_in_a_vlan(world6: World) -> None:
    frame = bytes(ETHER / Dot1Q(vlan=5) / IPv6(src=CLIENT6, dst=str(VIRTUAL6)) / SYN)
    assert world6.send(frame) == gated(frame, mac_of(1))


# ---------------------------------------------------------------------------------------- ICMPv6

TO_CLIENT = IPv6(src=str(VIRTUAL6), dst=CLIENT6)
ANSWERS: dict[str, Packet] = {
    "tcp": TO_CLIENT / TCP(sport=80, dport=1000, flags="A"),
    "udp": TO_CLIENT / UDP(sport=53, dport=1000),
    "a fragment": TO_CLIENT / IPv6ExtHdrFragment(offset=0, m=1, id=7) / UDP(sport=53, dport=1000),
}
ERRORS: dict[str, Packet] = {
    "too big": ICMPv6PacketTooBig(mtu=1400),
    "unreachable": ICMPv6DestUnreach(code=4),
    "time exceeded": ICMPv6TimeExceeded(),
    "parameter problem": ICMPv6ParamProblem(),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("about", ANSWERS.values(), ids=ANSWERS)
def test_an_error_reaches_the_real_that_it_is_about(world6: World, error: Packet, about: Packet) -> None:
    world6.send(tcp6())
    world6.send(udp6())
    frame = in_ipv6(error / bytes(about / bytes(64)), ROUTER)
    with world6.counting(tx_packets=1):
        assert world6.send(frame) == gated(frame, mac_of(1))


NOT_RELATED = {
    "an echo": in_ipv6(ICMPv6EchoRequest(data=b"well?")),
    "an error about another's packet": in_ipv6(ICMPv6PacketTooBig() / bytes(IPv6(src="2001:db8::9") / SYN)),
    "an error about a later fragment": in_ipv6(
        ICMPv6PacketTooBig() / bytes(TO_CLIENT / IPv6ExtHdrFragment(offset=9, nh=17) / bytes(20))
    ),
    "an error about an unknown connection": in_ipv6(ICMPv6PacketTooBig() / bytes(ANSWERS["tcp"])),
    "an echo in fragments": in_ipv6(IPv6ExtHdrFragment(offset=0, m=1, nh=58) / bytes(ICMPv6EchoRequest())),
}


@pytest.mark.parametrize("frame", NOT_RELATED.values(), ids=NOT_RELATED)
def test_the_kernel_gets_the_rest_while_the_lease_lasts(world6: World, frame: bytes) -> None:
    world6.data.renew_lease(60)
    with world6.counting(passed=1):
        assert world6.send(frame) == passed(frame)
    world6.data.renew_lease(0)
    with world6.counting(drop_no_lease=1):
        assert world6.send(frame) == dropped(frame)


# ---------------------------------------------------------------------------------------- neighbour discovery

GROUP, GROUP_MAC = "ff02::1:ff00:10", "33:33:ff:00:00:10"


def solicitation(source: str = CLIENT6, mac: str = CLIENT_MAC, target: object = VIRTUAL6, hops: int = 255) -> bytes:
    """Who has the target?"""
    ip = IPv6(src=source, dst=GROUP, hlim=hops)
    return bytes(Ether(dst=GROUP_MAC, src=mac) / ip / ICMPv6ND_NS(tgt=str(target)))


def advertisement(mac: str = RIVAL_MAC, target: object = VIRTUAL6, hops: int = 255) -> bytes:
    """The target is here."""
    ip = IPv6(src=str(target), dst="ff02::1", hlim=hops)
    return bytes(Ether(dst="33:33:00:00:00:01", src=mac) / ip / ICMPv6ND_NA(tgt=str(target), R=0, S=0))


QUESTIONS = {
    "multicast": solicitation(),
    "unicast": bytes(ETHER / IPv6(src=CLIENT6, dst=str(VIRTUAL6), hlim=255) / ICMPv6ND_NS(tgt=str(VIRTUAL6))),
    "is it free?": solicitation("::"),
}


@pytest.mark.parametrize("frame", QUESTIONS.values(), ids=QUESTIONS)
def test_the_kernel_answers_while_the_lease_lasts(world6: World, frame: bytes) -> None:
    world6.data.renew_lease(60)
    with world6.counting(passed=1):
        assert world6.send(frame) == passed(frame)
    world6.data.renew_lease(0)
    with world6.counting(nd_no_lease=1):
        assert world6.send(frame) == dropped(frame)


CLAIMS = {"advertised": advertisement(), "sent from": solicitation(str(VIRTUAL6), RIVAL_MAC, "2001:db8::9")}


@pytest.mark.parametrize("frame", CLAIMS.values(), ids=CLAIMS)
def test_a_rivals_claim_ends_the_lease(world6: World, frame: bytes) -> None:
    world6.data.renew_lease(60)
    with world6.counting(nd_no_lease=1):
        assert world6.send(frame) == passed(frame), "whoever listens here shall know"
        assert world6.send(QUESTIONS["multicast"]) == dropped(QUESTIONS["multicast"])


HARMLESS = {
    "our own": advertisement(OUR_MAC),
    "from afar": advertisement(hops=64),
    "of another address": advertisement(target="2001:db8::9"),
    "cut off": advertisement()[: IP_AT + 40 + 23],
    "asked from afar": solicitation(hops=254),
    "asked for another": solicitation(target="2001:db8::9"),
}


@pytest.mark.parametrize("frame", HARMLESS.values(), ids=HARMLESS)
def test_nothing_else_does(world6: World, frame: bytes) -> None:
    world6.data.renew_lease(60)
    with world6.counting(passed=1):
        assert world6.send(frame) == passed(frame)
        assert world6.send(QUESTIONS["multicast"]) == passed(QUESTIONS["multicast"])


# ---------------------------------------------------------------------------------------- two families

FOUR, SIX = Service(TCP_KEY, "rr", (real(1),)), Service(TCP6_KEY, "rr", (real6(2),))


def test_a_family_that_comes_and_goes_leaves_the_other_alone(own: World) -> None:
    own.apply(FOUR)
    own.send(tcp())
    assert set(own.maps) & {"connections", "connections6"} == {"connections"}
    own.apply(FOUR, SIX)
    own.send(tcp6())
    assert (own.real_of(tcp("A")), own.real_of(tcp6("A"))) == (1, 2)
    assert [len(rows) for rows in own.data.snapshot()] == [1, 1]
    own.apply(FOUR)
    assert own.real_of(tcp("A")) == 1
    assert own.send(tcp6("A")) == passed(tcp6("A"))
    own.apply(SIX, FOUR)
    assert (own.real_of(tcp("A")), own.real_of(tcp6("A"))) == (1, 2), "it was kept meanwhile"


def test_the_next_process_takes_both_over(own: World) -> None:
    own.apply(FOUR, SIX)
    for frame in (tcp(), tcp6()):
        own.send(frame)
    own.data.close(detach=False)
    again = World.open(own.node)
    try:
        again.apply(FOUR, SIX)
        assert (again.real_of(tcp("A")), again.real_of(tcp6("A"))) == (1, 2)
        again.data.close(detach=False)
        alone = World.open(own.node)
        alone.apply(FOUR)
        assert alone.real_of(tcp("A")) == 1
        assert [rows.dtype == CONNECTION6 for rows in alone.data.snapshot()] == [False]
        alone.apply(FOUR, SIX)
        assert alone.send(tcp6("A")) == dropped(tcp6("A")), "what had no virtual at a start is forgotten"
    finally:
        alone.close()


def test_an_ipv6_service_may_fall_back_on_this_director(world6: World) -> None:
    here = local()
    world6.apply(Service(TCP6_KEY, "rr", (), here), Service(UDP6_KEY, "rr", (), here))
    with world6.counting(passed=1):
        assert world6.send(tcp6()) == passed(tcp6())
