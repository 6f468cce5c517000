"""IPv6 in IPv4, IPv4 in IPv6, IPv6 in IPv6: every byte of what leaves, and of the answer to what is too big.

IPv4 in IPv4, and what all tunnels have in common: tests.packet.test_tunnel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import product

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether

from lb import abi, bpf
from lb.cli import ipvsadm
from lb.connections import CONNECTION, CONNECTION6
from lb.datapath.view import View
from lb.service import Destination, Service, ServiceKey, Way
from tests.packet.clock import Clock
from tests.packet.test_tunnel import tagged
from tests.packet.world import (
    CLIENT,
    CLIENT6,
    CLIENT_MAC,
    OUR_MAC,
    TCP_KEY,
    VIRTUAL,
    VIRTUAL6,
    World,
    in_ipv6,
    mac_of,
    on_cpu,
    real,
    real6,
    tcp,
    tcp6,
    tunnelled,
)

KEY6 = ServiceKey(VIRTUAL6, 80, 6)
SOURCE6, REAL6 = IPv6Address("2001:db8:5::1"), IPv6Address("2001:db8:6::101")
TO_ROUTER4 = bytes.fromhex("0200000001010200000000010800")
TO_ROUTER6 = bytes.fromhex("02000000010102000000000186dd")
"""Ethernet, from us."""
ADDRESSES6 = SOURCE6.packed + REAL6.packed


def tunnelled6(number: int, mtu: int = 1500) -> Destination:
    """2001:db8:6::(100 + number), by the router with the MAC of that number."""
    address = IPv6Address(int(REAL6) - 1 + number)
    return Destination(address, 1, mac_of(number), forward="ipip", way=Way(SOURCE6, mtu))


def service(*reals: Destination, key: ServiceKey = KEY6) -> Service:
    return Service(key, "rr", reals)


@pytest.fixture(scope="module")
def loaded() -> Iterator[World]:
    """A program with tunnels and virtuals of both families."""
    world = World.open()
    try:
        world.apply(service(tunnelled(1), tunnelled6(1), key=TCP_KEY), service(tunnelled(1), tunnelled6(1)))
        yield world
    finally:
        world.close()


@pytest.fixture
def far(loaded: World) -> World:
    """No connections, no reals."""
    loaded.apply(service(key=TCP_KEY), service())
    loaded.forget()
    return loaded


def with_reals(world: World, *reals: Destination) -> World:
    """The same ones for both virtuals."""
    world.apply(service(*reals, key=TCP_KEY), service(*reals))
    return world


def syn4(size: int, tos: int = 0) -> bytes:
    """A SYN whose IPv4 packet has this size."""
    ip = IP(src=CLIENT, dst=str(VIRTUAL), tos=tos, id=0x1234)
    return bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / ip / TCP(sport=1000, dport=80) / bytes(size - 40))


def syn6(size: int, client: str = CLIENT6, **fields: int) -> bytes:
    """A SYN whose IPv6 packet has this size. fields: of its header."""
    return in_ipv6(TCP(sport=1000, dport=80) / bytes(size - 60), client, **fields)


# -------------------------------------------------------------------- what leaves


def test_every_byte_of_ipv6_in_ipv4(far: World) -> None:
    frame = syn6(61, tc=0xB9, fl=0x12345)
    verdict, out = with_reals(far, tunnelled(1)).send(frame)
    outer = bytes.fromhex("45b90051 00004000 4029 4d31 c0000201 c6336465")
    assert (verdict, out) == (bpf.TX, TO_ROUTER4 + outer + frame[14:])


def test_every_byte_of_ipv4_in_ipv6(far: World) -> None:
    frame = syn4(41, tos=0xB9)
    verdict, out = with_reals(far, tunnelled6(1)).send(frame)
    outer = bytes.fromhex("6b900000 0029 04 40") + ADDRESSES6
    assert (verdict, out) == (bpf.TX, TO_ROUTER6 + outer + frame[14:])


def test_every_byte_of_ipv6_in_ipv6(far: World) -> None:
    frame = syn6(61, tc=0xB9, fl=0x12345)
    verdict, out = with_reals(far, tunnelled6(1)).send(frame)
    outer = bytes.fromhex("6b912345 003d 29 40") + ADDRESSES6
    assert (verdict, out) == (bpf.TX, TO_ROUTER6 + outer + frame[14:])


@pytest.mark.parametrize("tos", [0, 1, 2, 3, 0xFC, 0xFF])
def test_outer_headers_as_another_reads_them(far: World, tos: int) -> None:
    """DSCP and ECN of the inner one, in both directions between the families."""
    _, out = with_reals(far, tunnelled(1)).send(syn6(100, tc=tos))
    outer = IP(out[14:34])
    assert (outer.src, outer.dst, outer.proto, outer.ttl, str(outer.flags), outer.id, outer.tos, outer.len) == (
        *("192.0.2.1", "198.51.100.101", 41, 64, "DF", 0, tos, 120),
    )
    given = outer.chksum
    del outer.chksum
    assert IP(bytes(outer)).chksum == given
    for frame, protocol in ((syn4(100, tos), 4), (syn6(100, tc=tos), 41)):
        far.forget()
        _, out = with_reals(far, tunnelled6(1)).send(frame)
        outer6 = IPv6(out[14:54])
        assert (outer6.src, outer6.dst, outer6.nh, outer6.hlim, outer6.tc, outer6.fl, outer6.plen) == (
            *(str(SOURCE6), str(REAL6), protocol, 64, tos, 0, 100),
        )
        assert out[54:] == frame[14:]


def test_behind_extension_headers(far: World) -> None:
    frame = in_ipv6(IPv6ExtHdrDestOpt() / TCP(sport=1000, dport=80, flags="S"))
    _, out = with_reals(far, tunnelled(1)).send(frame)
    assert out[34:] == frame[14:]


def test_a_tunnel_leaves_its_vlan(far: World) -> None:
    with_reals(far, tunnelled6(1))
    for frame in (tcp(), tcp6()):
        for tags in (1, 2):
            assert far.send(tagged(frame, tags)) == far.send(frame)


def test_all_kinds_side_by_side(far: World) -> None:
    far.apply(
        service(real(2), tunnelled(1), tunnelled6(3), key=TCP_KEY), service(real6(2), tunnelled(1), tunnelled6(3))
    )
    for make in (tcp, tcp6):
        added = sorted(len(far.send(make(port=n))[1]) - len(make()) for n in range(3))
        assert added == [0, 20, 40]


# -------------------------------------------------------------------- what is told of them


def test_connections_across_families_in_rows(far: World) -> None:
    """What directors tell each other, and what `lbctl list --connections` shows; back in, they are the same."""
    with_reals(far, tunnelled6(1), tunnelled(2))
    for port, flags in product((1, 2), "SA"):
        far.send(tcp(flags, port))
        far.send(tcp6(flags, port))
    told, held = far.data.read_events(), far.data.snapshot()
    for families in (told, held):
        assert sum(len(rows) for rows in families if rows.dtype == CONNECTION) == 1
        assert sum(len(rows) for rows in families if rows.dtype == CONNECTION6) == 3
    lines = [line for rows in held for line in ipvsadm.connections(rows, [60] * len(rows))]
    assert {(line["client"].rsplit(":", 1)[0], line["real"]) for line in lines} == {
        ("10.0.0.1", f"[{REAL6}]:80"),
        ("10.0.0.1", "198.51.100.102:80"),
        (f"[{CLIENT6}]", f"[{REAL6}]:80"),
        (f"[{CLIENT6}]", "198.51.100.102:80"),
    }
    far.forget()
    assert sum(far.data.install(rows)[0] for rows in held) == 4
    again = far.data.snapshot()
    for rows in (*held, *again):
        assert max(rows["idle_s"], default=0) < 10
        rows["idle_s"] = 0  # they grow older meanwhile
    assert sorted(row.tobytes() for rows in again for row in rows) == sorted(r.tobytes() for rows in held for r in rows)
    with far.counting(tx_packets=4):
        added = [len(far.send(make("A", port=n))[1]) - len(make()) for make in (tcp, tcp6) for n in (1, 2)]
    assert sorted(added) == [20, 20, 40, 40]


def test_a_real_of_another_family_is_not_taken_for_one_that_ends_like_it(far: World) -> None:
    """2001:db8:6::c633:6465 and 198.51.100.101 have the same last 32 bits."""
    twin = replace(tunnelled6(1), address=IPv6Address(int(SOURCE6) & ~0xFFFF | int(IPv4Address("198.51.100.101"))))
    with_reals(far, twin, tunnelled(1))
    for port, flags in product((1, 2), "SA"):
        far.send(tcp(flags, port))
    held = far.data.snapshot()
    far.forget()
    assert sum(far.data.install(rows)[0] for rows in held) == 2
    assert sorted(len(far.send(tcp("A", port=n))[1]) - len(tcp()) for n in (1, 2)) == [20, 40]


def test_the_next_process_knows_both_tunnels(own: World) -> None:
    with_reals(own, tunnelled6(1))
    own.send(tcp())
    own.data.close(detach=False)
    own.data = World.open(own.node).data
    own.apply(service(real(2), key=TCP_KEY), service(real6(2)))
    assert own.send(tcp("A"))[1][:14] == TO_ROUTER6
    assert own.data._maps().tunnels() == {6}
    assert isinstance(own.data._maps(), View)


# -------------------------------------------------------------------- too big


def test_every_byte_of_the_answer_to_what_is_too_big(far: World) -> None:
    frame = syn6(1461, tc=0xB9, fl=0x12345)
    with_reals(far, tunnelled6(1))
    with far.counting(too_big=1):
        verdict, out = far.send(frame)
    ethernet = bytes.fromhex("02000000000202000000000186dd")
    ip = bytes.fromhex("60000000 04d8 3a 40") + VIRTUAL6.packed + IPv6Address(CLIENT6).packed
    assert (verdict, len(out)) == (bpf.TX, 14 + 1280)
    assert (out[:14], out[14:54]) == (ethernet, ip)
    assert out[54:56] + out[58:62] == bytes.fromhex("0200 000005b4")  # 1460
    assert out[62:] == frame[14 : 14 + 1232]
    answer = IPv6(out[14:])
    given = answer[ICMPv6PacketTooBig].cksum
    del answer[ICMPv6PacketTooBig].cksum
    assert IPv6(bytes(answer))[ICMPv6PacketTooBig].cksum == given


@pytest.mark.parametrize("tags", [1, 2])
def test_an_answer_stays_in_its_vlan(far: World, tags: int) -> None:
    with_reals(far, tunnelled6(1))
    plain = far.send(syn6(1461))[1]
    assert far.send(tagged(syn6(1461), tags)) == (bpf.TX, tagged(plain, tags))


@pytest.mark.parametrize(
    ("far_real", "mtu", "fits"),
    [(tunnelled, 1500, 1480), (tunnelled6, 1500, 1460), (tunnelled, 1301, 1281), (tunnelled6, 1321, 1281)],
)
def test_the_first_size_that_is_too_big(far: World, far_real: type, mtu: int, fits: int) -> None:
    with_reals(far, far_real(1, mtu=mtu))
    with far.counting(tx_packets=1, too_big=1):
        went, answer = (far.send(syn6(size))[1] for size in (fits, fits + 1))
    assert len(went) == 14 + mtu
    assert IPv6(answer[14:])[ICMPv6PacketTooBig].mtu == fits


def test_nobody_is_told_to_send_less_than_1280_bytes(far: World) -> None:
    """Over a route of 1300 only 1260 would fit: what is larger than 1280 is told of that, the rest is lost."""
    with_reals(far, tunnelled6(1, mtu=1300))
    with far.counting(tx_packets=1, drop_too_big=2, too_big=1):
        outs = [far.send(syn6(size)) for size in (1260, 1261, 1280, 1281)]
    assert [verdict for verdict, _ in outs] == [bpf.TX, bpf.DROP, bpf.DROP, bpf.TX]
    assert outs[1][1] == syn6(1261)
    assert IPv6(outs[3][1][14:])[ICMPv6PacketTooBig].mtu == 1280


def test_ipv4_hears_what_fits_into_ipv6(far: World) -> None:
    with_reals(far, tunnelled6(1))
    with far.counting(tx_packets=1, too_big=1):
        went, answer = (far.send(syn4(size))[1] for size in (1460, 1461))
    assert len(went) == 14 + 1500
    ip = bytes.fromhex("45c00038 00004000 4001 6dfa c000020a 0a000001")
    assert answer[14:34] == ip
    assert answer[34:36] + answer[38:42] == bytes.fromhex("0304 0000 05b4")
    assert answer[42:] == syn4(1461)[14:42]


@pytest.mark.parametrize("client", ["::", "::1", "ff02::1", "ff0e::7"])
def test_who_is_no_single_host_gets_no_answer(far: World, client: str) -> None:
    with_reals(far, tunnelled6(1))
    frame = syn6(1461, client)
    with far.counting(drop_too_big=1):
        assert far.send(frame) == (bpf.DROP, frame)


def test_errors_go_through_the_tunnel_and_are_not_answered(far: World) -> None:
    with_reals(far, tunnelled6(1))
    far.send(tcp6())
    quoted = IPv6(src=str(VIRTUAL6), dst=CLIENT6) / TCP(sport=80, dport=1000)
    small, large = (in_ipv6(ICMPv6PacketTooBig(mtu=1400) / quoted / bytes(n), "2001:db8:c::9") for n in (9, 1400))
    verdict, out = far.send(small)
    assert (verdict, out[:14], out[54:]) == (bpf.TX, TO_ROUTER6, small[14:])
    with far.counting(drop_too_big=1):
        assert far.send(large)[0] == bpf.DROP


def test_answers_to_both_families_have_one_limit(own: World) -> None:
    clock = Clock()
    with on_cpu(0), clock.in_force():
        with_reals(own, tunnelled6(1))
        clock.set_program(own.node)
        with own.counting(too_big=abi.ANSWERS_A_TICK, drop_too_big=2):
            for frame in (syn4(1461), syn6(1461)):
                for _ in range(abi.ANSWERS_A_TICK // 2):
                    own.send(frame)
            assert [own.send(frame)[0] for frame in (syn4(1461), syn6(1461))] == [bpf.DROP, bpf.DROP]
