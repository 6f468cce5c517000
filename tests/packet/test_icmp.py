"""ICMP to a virtual address: an error gets to the real whose packet it quotes, an echo to who holds the address."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from lb.service import Service
from tests.packet.world import (
    CLIENT,
    CLIENT_MAC,
    OUR_MAC,
    TCP_KEY,
    VIRTUAL,
    World,
    dropped,
    gated,
    local,
    mac_of,
    passed,
    real,
    tcp,
    udp,
)

ETHER = Ether(dst=OUR_MAC, src=CLIENT_MAC)
ROUTER = "198.51.100.7"
IP_AT = 14
PREDECESSOR = bytes.fromhex("020000000bad")

ERRORS = {
    "network unreachable": (3, 0),
    "port unreachable": (3, 3),
    "fragmentation needed": (3, 4),
    "administratively prohibited": (3, 13),
    "source quench": (4, 0),
    "time to live exceeded": (11, 0),
    "reassembly time exceeded": (11, 1),
    "parameter problem": (12, 0),
}
TO_CLIENT: dict[str, Packet] = {"tcp": TCP(sport=80, dport=1000, flags="A"), "udp": UDP(sport=53, dport=1000)}


def error(
    kind: int = 3,
    code: int = 4,
    segment: Packet = TO_CLIENT["tcp"],
    *,
    ends: Packet | None = None,
    quoted: int = 8,
    router: str = ROUTER,
) -> bytes:
    """What a router says of a packet from the virtual to the client. quoted: bytes behind that packet's IP header."""
    ip = IP(src=str(VIRTUAL), dst=CLIENT) if ends is None else ends
    about = bytes(ip / segment / bytes(64))
    header = (about[0] & 15) * 4
    outer = IP(src=router, dst=str(VIRTUAL)) / ICMP(type=kind, code=code, nexthopmtu=1400)
    return bytes(ETHER / outer / about[: header + quoted])


@pytest.mark.parametrize(("kind", "code"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("protocol", TO_CLIENT)
def test_an_error_reaches_the_real_that_it_is_about(world: World, protocol: str, kind: int, code: int) -> None:
    opening = tcp() if protocol == "tcp" else udp()
    others = {world.real_of(tcp(port=port) if protocol == "tcp" else udp(port=port)) for port in (999, 1001)}
    assert others == {1, 2}
    number = world.real_of(opening)
    frame = error(kind, code, TO_CLIENT[protocol])
    with world.counting(tx_packets=1):
        assert world.send(frame) == gated(frame, mac_of(number))


def test_fragmentation_needed_byte_by_byte(world: World) -> None:
    world.apply_reals(real(1))
    world.send(tcp())
    frame = bytes.fromhex(
        "020000000001 020000000002 0800"
        "4500 0038 0001 0000 4001 0000 c6336407 c000020a"  # a router to 192.0.2.10
        "0304 0000 0000 0578"  # 1400 bytes
        "4500 05dc 0002 4000 4006 0000 c000020a 0a000001"  # 192.0.2.10 to 10.0.0.1, do not fragment
        "0050 03e8 00000001"  # port 80 to port 1000
    )
    assert world.send(frame) == (3, bytes.fromhex("020000000101 020000000001") + frame[12:])


def test_it_is_counted_for_the_real_and_changes_nothing_of_the_connection(world: World) -> None:
    world.apply_reals(real(1))
    world.send(tcp())
    world.age(1)
    world.data.read_events()
    before = world.entry()
    counted = world.data.totals()[(TCP_KEY, real(1).address)]
    frame = error()
    world.send(frame)
    assert world.entry() == before
    assert len(world.data.read_events()) == 0
    now = world.data.totals()[(TCP_KEY, real(1).address)]
    assert now.packets - counted.packets == 1
    assert now.bytes - counted.bytes == len(frame) - IP_AT
    assert now.connections == counted.connections


def test_a_connection_known_by_heart(world: World) -> None:
    """An error of a connection that was just seen is answered from the cache, as its packets are."""
    number = world.real_of(tcp())
    for flags in ("A", "A"):
        assert world.real_of(tcp(flags)) == number
    frame = error()
    assert world.send(frame) == gated(frame, mac_of(number))
    assert world.real_of(tcp("A")) == number


def test_of_a_finished_connection_too(world: World) -> None:
    number = world.real_of(tcp())
    world.real_of(tcp("R"))
    frame = error()
    assert world.send(frame) == gated(frame, mac_of(number))


NOT_A_REALS: dict[str, bytes] = {
    "a connection that nobody knows": error(segment=TCP(sport=80, dport=1)),
    "a port that is no service": error(segment=TCP(sport=81, dport=1000)),
    "another address as sender": error(ends=IP(src="192.0.2.11", dst=CLIENT)),
    "another client": error(ends=IP(src=str(VIRTUAL), dst="10.0.0.2")),
    "the client's packet instead of the real's": error(ends=IP(src=CLIENT, dst=str(VIRTUAL))),
    "a later fragment, which has no ports": error(ends=IP(src=str(VIRTUAL), dst=CLIENT, frag=1)),
    "our own echo": error(segment=ICMP()),
    "SCTP": error(ends=IP(src=str(VIRTUAL), dst=CLIENT, proto=132)),
    "an echo request": bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL)) / ICMP()),
    "an echo reply": bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL)) / ICMP(type=0)),
    "a time stamp request": bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL)) / ICMP(type=13)),
    "a redirect": error(5, 1),
    "a fragment of a large echo": bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), flags="MF") / ICMP() / bytes(64)),
    "a later one": bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), proto=1, frag=9) / bytes(64)),
}


@pytest.mark.parametrize("frame", NOT_A_REALS.values(), ids=NOT_A_REALS)
def test_all_else_is_the_kernels_while_it_may_speak_for_the_address(world: World, frame: bytes) -> None:
    world.send(tcp())
    counter = "passed" if frame == NOT_A_REALS["a port that is no service"] else "drop_no_lease"
    with world.counting(**{counter: 1}):
        assert world.send(frame) == (passed(frame) if counter == "passed" else dropped(frame))
    world.data.renew_lease(60)
    with world.counting(passed=1):
        assert world.send(frame) == passed(frame)
    assert len(world.entries()) == 1


def test_of_a_connection_that_ran_out(world: World) -> None:
    world.send(tcp())
    world.age(1000)
    frame = error()
    with world.counting(drop_no_lease=1):
        assert world.send(frame) == dropped(frame)


def test_of_a_connection_of_the_fallback_that_is_this_director(world: World) -> None:
    world.apply_reals(fallback=local())
    world.send(tcp())
    frame = error()
    with world.counting(passed=1):
        assert world.send(frame) == passed(frame)


def test_the_director_before_us_is_asked(world: World) -> None:
    """It may know the connection; what it sends back is the kernel's."""
    world.data.renew_lease(60)
    world.data.refer_to([PREDECESSOR], 60)
    frame = error()
    with world.counting(referred=1):
        assert world.send(frame) == gated(frame, PREDECESSOR)
    back = frame[:6] + PREDECESSOR + frame[12:]
    with world.counting(passed=1):
        assert world.send(back) == passed(back)


def test_at_an_address_with_tcp_only(own: World) -> None:
    own.apply(Service(TCP_KEY, "rr", (real(1),)))
    own.data.renew_lease(60)
    about_udp = error(segment=TO_CLIENT["udp"])
    with own.counting(passed=1):
        assert own.send(about_udp) == passed(about_udp)


@pytest.mark.parametrize("words", range(11))
def test_options_in_the_quoted_packet_and_around_it(world: World, words: int) -> None:
    number = world.real_of(tcp())
    options = [IPOption_Router_Alert()] * words
    inside = error(ends=IP(src=str(VIRTUAL), dst=CLIENT, options=options))
    assert inside[IP_AT + 28] & 15 == 5 + words
    assert world.send(inside) == gated(inside, mac_of(number))
    plain = error()
    outer = IP(src=ROUTER, dst=str(VIRTUAL), options=options, proto=1)
    around = bytes(ETHER / outer / plain[IP_AT + 20 :])
    assert world.send(around) == gated(around, mac_of(number))


@pytest.mark.parametrize("quoted", [8, 20, 64])
def test_cut_anywhere(world: World, quoted: int) -> None:
    world.send(tcp())
    frame = error(quoted=quoted)
    for length in range(IP_AT, len(frame)):
        cut = frame[:length]
        if length < IP_AT + 20:
            with world.counting():
                assert world.send(cut) == passed(cut)
        else:
            with world.counting(drop_malformed=1):
                assert world.send(cut) == dropped(cut)


def changed(frame: bytes, at: int, *values: int) -> bytes:
    """The frame with other bytes from an offset on."""
    return frame[:at] + bytes(values) + frame[at + len(values) :]


QUOTED_AT = IP_AT + 20 + 8
WRONG = {
    "quoted ihl 4": changed(error(), QUOTED_AT, 0x44),
    "quoted ihl beyond the packet": changed(error(), QUOTED_AT, 0x46),
    "quoted version 6": changed(error(), QUOTED_AT, 0x65),
    "7 bytes of the quoted segment": error(quoted=7),
    "total length within the quoted segment": changed(error(), IP_AT + 2, 0, 20 + 8 + 20 + 7),
    "total length within the quoted header": changed(error(), IP_AT + 2, 0, 20 + 8 + 19),
    "total length within ICMP's header": changed(error(), IP_AT + 2, 0, 20 + 7),
}


@pytest.mark.parametrize("frame", WRONG.values(), ids=WRONG)
def test_quotes_that_contradict_themselves(world: World, frame: bytes) -> None:
    world.send(tcp())
    with world.counting(drop_malformed=1):
        assert world.send(frame) == dropped(frame)
