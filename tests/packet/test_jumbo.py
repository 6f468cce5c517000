"""Frames of 9,000 bytes, natively: the program sees their first buffer, and sends all of them."""

from __future__ import annotations

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from lb import bpf
from lb.datapath.attach import NATIVE_MTU, interface_mtu
from lb.errors import DataPathError
from tests.packet.world import CLIENT, CLIENT_MAC, INTERFACE, OUR_MAC, VIRTUAL, World, dropped, gated, mac_of, real, tcp

ETHER = Ether(dst=OUR_MAC, src=CLIENT_MAC)
TO_VIRTUAL = IP(src=CLIENT, dst=str(VIRTUAL))


def set_mtu(mtu: int) -> None:
    """Of both ends of the cable."""
    with IPRoute() as ip:
        for name in (INTERFACE, f"{INTERFACE}p"):
            ip.link("set", index=ip.link_lookup(ifname=name)[0], mtu=mtu)


@pytest.fixture
def wide(own: World) -> World:
    """With an MTU of 9,000 bytes."""
    set_mtu(9_000)
    own.apply_reals(real(1))
    return own


def test_it_is_attached_natively(wide: World) -> None:
    assert bpf.takes_jumbo(), "this kernel cannot; Linux 5.18 could"
    assert wide.data.modes == {INTERFACE: "native"}


@pytest.mark.parametrize("length", [NATIVE_MTU - 40, NATIVE_MTU, 4_096, 8_960])
@pytest.mark.parametrize("tags", [0, 2])
def test_a_long_packet(wide: World, length: int, tags: int) -> None:
    payload = bytes(n % 251 for n in range(length))
    ether = ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) if tags else ETHER
    for segment in (TCP(sport=1000, dport=80, flags="S"), UDP(sport=1000, dport=53)):
        frame = bytes(ether / TO_VIRTUAL / segment / payload)
        with wide.counting(tx_packets=1):
            assert wide.send(frame) == gated(frame, mac_of(1))


def test_one_that_says_it_is_longer_than_it_is(wide: World) -> None:
    frame = bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), len=8_041) / TCP(dport=80) / bytes(8_000))
    with wide.counting(drop_malformed=1):
        assert wide.send(frame) == dropped(frame)
    whole = bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), len=8_040) / TCP(dport=80) / bytes(8_000))
    assert wide.send(whole) == gated(whole, mac_of(1))


def test_short_ones_as_ever(wide: World) -> None:
    for length in range(34, len(tcp())):
        with wide.counting(drop_malformed=1):
            assert wide.send(tcp()[:length]) == dropped(tcp()[:length])
    assert wide.send(tcp()) == gated(tcp(), mac_of(1))


def test_an_early_fragment_in_several_buffers_is_not_held(wide: World) -> None:
    frame = bytes(ETHER / IP(src=CLIENT, dst=str(VIRTUAL), id=7, frag=1, proto=17) / bytes(8_000))
    with wide.counting(drop_fragment=1):
        assert wide.send(frame) == dropped(frame)


def test_an_mtu_that_fits_costs_nothing(own: World) -> None:
    own.apply_reals(real(1))
    assert own.data._configuration is not None
    assert not own.data._configuration.jumbo


def test_without_several_buffers_it_is_said(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on kernels before 5.18: generic where that may be, else an error that says what is lacking."""
    monkeypatch.setattr(bpf, "takes_jumbo", lambda: False)
    set_mtu(9_000)
    assert interface_mtu(INTERFACE) == 9_000
    own.apply_reals(real(1))
    assert own.data.modes == {INTERFACE: "generic"}
    own.close()
    native = World.open(own.node, attach="native")
    try:
        with pytest.raises(DataPathError, match=r"this kernel \(before 5\.18\) shows XDP no frames of 9000 bytes"):
            native.apply_reals(real(1))
    finally:
        native.close()
