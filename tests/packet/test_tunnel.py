"""Packets inside packets: every byte of what leaves, of the answer to what is too big, and whom nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.l2 import Ether

from lb import abi, bpf
from lb.abi import RealFlag
from lb.cli import ipvsadm
from tests.packet.clock import Clock
from tests.packet.world import (
    CLIENT,
    CLIENT_MAC,
    OUR_MAC,
    TCP_KEY,
    VIRTUAL,
    World,
    local,
    mac_of,
    on_cpu,
    real,
    tcp,
    tunnelled,
    udp,
)

TOS = (0, 1, 2, 3, 0xFC, 0xFF)
REAL, SOURCE = "198.51.100.101", "192.0.2.1"
FROM_US = bytes.fromhex("0200000001010200000000010800")
"""To the router, in Ethernet."""


@pytest.fixture(scope="module")
def loaded() -> Iterator[World]:
    """A program with tunnels."""
    world = World.open()
    try:
        world.apply_reals(tunnelled(1))
        yield world
    finally:
        world.close()


@pytest.fixture
def far(loaded: World) -> World:
    """One real behind a tunnel, no connections, nothing counted for it."""
    loaded.apply_reals()
    loaded.forget()
    loaded.apply_reals(tunnelled(1))
    return loaded


def segment(size: int, flags: int | str = "DF", tos: int = 0, options: int = 0, client: str = CLIENT) -> bytes:
    """A SYN whose IP packet has this size."""
    ip = IP(src=client, dst=str(VIRTUAL), flags=flags, tos=tos, id=0x1234, options=[IPOption_NOP()] * options)
    head = Ether(dst=OUR_MAC, src=CLIENT_MAC) / ip / TCP(sport=1000, dport=80, seq=0x01020304)
    return bytes(head / bytes(size - 40 - options))


def test_every_byte_of_a_segment(far: World) -> None:
    frame = segment(41, tos=0xB9)  # DSCP 46, ECN ECT(1)
    verdict, out = far.send(frame)
    outer = bytes.fromhex("45b9003d 12344000 4004 3b36 c0000201 c6336465")
    assert (verdict, out) == (bpf.TX, FROM_US + outer + frame[14:])


def _del_checksum(header: bytes) -> bytes:
    """So that scapy computes it."""
    ip = IP(header)
    del ip.chksum
    return bytes(ip)


@pytest.mark.parametrize(
    "frame",
    [
        *(segment(60, flags=flags, tos=tos) for flags in (0, "DF") for tos in TOS),
        segment(80, options=8),
        udp() + bytes(18),
        segment(1480),
    ],
    ids=[*(f"tos {tos:#x}{' with DF' * (flags != 0)}" for flags in (0, "DF") for tos in TOS), "options", "udp", "full"],
)
def test_outer_headers_as_another_reads_them(far: World, frame: bytes) -> None:
    """DF whatever the inner one has; DSCP, ECN and identification of the inner; what is behind the packet stays."""
    verdict, out = far.send(frame)
    outer, inner = IP(out[14:34]), IP(frame[14:])
    assert verdict == bpf.TX
    assert (out[:14], out[34:]) == (FROM_US, frame[14:])
    assert bytes(out[14:34]) == _del_checksum(out[14:34])
    assert (outer.src, outer.dst, outer.proto, outer.ttl, str(outer.flags)) == (SOURCE, REAL, 4, 64, "DF")
    assert (outer.tos, outer.id, outer.len) == (inner.tos, inner.id, inner.len + 20)


def test_a_connection_goes_on_in_its_tunnel(far: World) -> None:
    with far.counting(tx_packets=3):
        for flags in ("S", "A", "PA"):
            assert far.send(tcp(flags))[1][14 + 16 : 14 + 20] == bytes((198, 51, 100, 101))
    (service, _) = far.data.held()
    (held,) = service.destinations
    assert (held.forward, held.mac, held.packets, held.bytes) == ("ipip", mac_of(1), 3, 3 * 47)
    (document, _) = ipvsadm.services(far.data.held())
    assert document["reals"][0]["forward"] == "ipip"
    assert "198.51.100.101:80            Tunnel  1" in ipvsadm.format_services([document])


def test_gate_local_and_tunnel_side_by_side(far: World) -> None:
    far.apply_reals(tunnelled(1), real(2), local())
    kinds = sorted((verdict, len(out) - len(tcp())) for verdict, out in (far.send(tcp(port=n)) for n in range(3)))
    assert kinds == [(bpf.PASS, 0), (bpf.TX, 0), (bpf.TX, 20)]


def test_a_real_that_left_keeps_its_tunnel(far: World) -> None:
    far.send(tcp())
    far.apply_reals(real(2))
    assert far.send(tcp("A"))[1][:34] == FROM_US + far.send(tcp("A"))[1][14:34]
    assert far.send(tcp(port=2))[1] == mac_of(2) + far.send(tcp(port=2))[1][6:]


def test_the_next_process_knows_the_tunnel_of_a_real_that_left(own: World) -> None:
    own.apply_reals(tunnelled(1))
    own.send(tcp())
    own.data.close(detach=False)
    own.data = World.open(own.node).data
    own.apply_reals(real(2))
    assert own.send(tcp("A"))[1][:14] == FROM_US
    flags = own.maps["reals"].read()["flags"]
    assert sorted(int(f) & (RealFlag.TUNNEL | RealFlag.RETIRED) for f in flags if f) == [0, 0, 40, 40]


def test_no_way_is_no_real(far: World) -> None:
    far.apply_reals(replace(tunnelled(1), mac=None, way=None))
    with far.counting(drop_no_real=1):
        assert far.send(tcp()) == (bpf.DROP, tcp())


def test_a_program_without_tunnels_has_none_of_it(own: World) -> None:
    own.apply_reals(real(1))
    assert own.data._configuration is not None
    assert not own.data._configuration.tunnels
    own.apply_reals(tunnelled(1))
    assert own.data._configuration.tunnels


# -------------------------------------------------------------------- too big


def test_every_byte_of_the_answer_to_what_is_too_big(far: World) -> None:
    frame = segment(1481)
    with far.counting(too_big=1):
        verdict, out = far.send(frame)
    ethernet = bytes.fromhex("0200000000020200000000010800")
    ip = bytes.fromhex("45c00038 00004000 4001 6dfa c000020a 0a000001")
    quoted = frame[14 : 14 + 28]
    assert (verdict, out[:14], out[42:]) == (bpf.TX, ethernet, quoted)
    assert out[14:34] == ip
    assert out[34:36] + out[38:42] == bytes.fromhex("0304 0000 05c8")  # 1480
    icmp = ICMP(out[34:])
    given = icmp.chksum
    del icmp.chksum
    assert ICMP(bytes(icmp)).chksum == given


@pytest.mark.parametrize("options", [0, 4, 40])
@pytest.mark.parametrize("flags", ["DF", 0])
def test_options_are_quoted_too_and_df_does_not_matter(far: World, options: int, flags: str | int) -> None:
    frame = segment(1481, flags=flags, options=options)
    verdict, out = far.send(frame)
    answer = IP(out[14:])
    assert verdict == bpf.TX
    assert (answer.src, answer.dst, answer[ICMP].type, answer[ICMP].code) == (str(VIRTUAL), CLIENT, 3, 4)
    assert answer[ICMP].nexthopmtu == 1480
    assert len(out) == 14 + answer.len == 14 + 28 + 28 + options
    assert out[42:] == frame[14 : 14 + 28 + options]
    assert bytes(out[14:34]) == _del_checksum(out[14:34])


def test_the_first_size_that_is_too_big(far: World) -> None:
    far.apply_reals(tunnelled(1, mtu=576))
    with far.counting(tx_packets=1, too_big=1):
        assert [len(far.send(segment(size))[1]) for size in (556, 557)] == [14 + 576, 14 + 56]


@pytest.mark.parametrize("client", ["0.0.0.1", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"])
def test_who_is_no_single_host_gets_no_answer(far: World, client: str) -> None:
    with far.counting(drop_too_big=1):
        assert far.send(segment(1481, client=client)) == (bpf.DROP, segment(1481, client=client))


def test_answers_are_limited(own: World) -> None:
    clock = Clock()
    with on_cpu(0), clock.in_force():
        own.apply_reals(tunnelled(1))
        clock.set_program(own.node)
        with own.counting(too_big=abi.ANSWERS_A_TICK, drop_too_big=1):
            verdicts = [own.send(segment(1481))[0] for _ in range(abi.ANSWERS_A_TICK + 1)]
        assert verdicts[-2:] == [bpf.TX, bpf.DROP]
        clock.now_ns += 1 << abi.TICK_SHIFT
        clock.set_program(own.node)
        assert own.send(segment(1481))[0] == bpf.TX


def test_what_is_too_big_is_not_counted_for_the_real(far: World) -> None:
    far.send(segment(1481))
    (totals,) = [total for (key, _), total in far.data.totals().items() if key == TCP_KEY]
    assert (totals.connections, totals.packets, totals.bytes) == (1, 0, 0)


def test_udp_is_told_as_well(far: World) -> None:
    frame = bytes(
        Ether(dst=OUR_MAC, src=CLIENT_MAC) / IP(src=CLIENT, dst=str(VIRTUAL)) / UDP(sport=7, dport=53) / bytes(1460)
    )
    assert ICMP(far.send(frame)[1][34:]).nexthopmtu == 1480


# -------------------------------------------------------------------- tags, and ICMP


def tagged(frame: bytes, tags: int) -> bytes:
    """In so many VLANs, one in the other."""
    return frame[:12] + b"".join(bytes.fromhex(tag) for tag in ("88a80064", "81000005")[2 - tags :]) + frame[12:]


@pytest.mark.parametrize("tags", [1, 2])
def test_a_tunnel_leaves_its_vlan(far: World, tags: int) -> None:
    """By the route of the kernel, which knows the interface only."""
    assert far.send(tagged(tcp(), tags)) == far.send(tcp())


@pytest.mark.parametrize("tags", [1, 2])
@pytest.mark.parametrize("options", [0, 40])
def test_an_answer_stays_in_its_vlan(far: World, tags: int, options: int) -> None:
    frame = segment(1481, options=options)
    plain = far.send(frame)[1]
    assert far.send(tagged(frame, tags)) == (bpf.TX, tagged(plain, tags))


def icmp_error(size: int) -> bytes:
    """About a packet that the virtual sent to the client."""
    quoted = IP(src=str(VIRTUAL), dst=CLIENT) / TCP(sport=80, dport=1000)
    outer = IP(src="10.9.9.9", dst=str(VIRTUAL), flags="DF") / ICMP(type=3, code=4, nexthopmtu=1400)
    frame = bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / outer / quoted)
    return bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / outer / quoted / bytes(size + 14 - len(frame)))


def test_errors_go_through_the_tunnel_and_are_not_answered(far: World) -> None:
    far.send(tcp())
    frame = icmp_error(576)
    verdict, out = far.send(frame)
    assert (verdict, out[:14], out[34:]) == (bpf.TX, FROM_US, frame[14:])
    with far.counting(drop_too_big=1):
        assert far.send(icmp_error(1481))[0] == bpf.DROP
