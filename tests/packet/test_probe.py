"""Checks by way of the virtual's address: both programs of traffic control, byte for byte and against their model."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, IPerror6, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from lb import bpf
from lb.abi import words
from lb.addresses import Address
from lb.datapath.load import load_probe
from lb.datapath.probing import KEY, VALUE, Behind, keys
from lb.datapath.source import probe_text
from lb.reference import probe as reference
from lb.reference.probe import Probes, Verdict

OUR_MAC, NOBODY = "02:00:00:00:00:01", "02:00:00:00:00:00"
MACS = ("02:00:00:00:00:11", "02:00:00:00:00:12")


@dataclass(frozen=True)
class Family:
    """Addresses of one kind. probes: of two reals of the virtual."""

    probes: tuple[Address, Address]
    virtual: Address
    own: Address
    stranger: Address

    @property
    def all(self) -> tuple[Address, ...]:
        """Each of them."""
        return *self.probes, self.virtual, self.own, self.stranger


V4 = Family(
    (IPv4Address("198.18.0.1"), IPv4Address("198.18.0.2")),
    *map(IPv4Address, ("192.0.2.10", "192.0.2.3", "192.0.2.77")),
)
V6 = Family(
    (IPv6Address("2001:2::1"), IPv6Address("2001:2::2")),
    *map(IPv6Address, ("2001:db8::10", "2001:db8::3", "2001:db8::77")),
)
FAMILIES = pytest.mark.parametrize("family", [V4, V6], ids=["ipv4", "ipv6"])


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def behind() -> dict[Address, Behind]:
    """What the probe addresses stand for."""
    return {
        address: Behind(family.virtual, raw(mac))
        for family in (V4, V6)
        for address, mac in zip(family.probes, MACS, strict=True)
    }


class Programs:
    """The loaded pair of them, and their model."""

    def __init__(self) -> None:
        self.ask_fd, self.answer_fd, map_fd = load_probe(probe_text(4096))
        table = bpf.Map(map_fd, KEY, VALUE)
        known = behind()
        table.update(keys(known), np.array([(words(b.virtual), tuple(b.mac), 0) for b in known.values()], VALUE))
        table.close()
        self.tables = Probes({number(a): (number(b.virtual), b.mac) for a, b in known.items()})

    def close(self) -> None:
        os.close(self.ask_fd)
        os.close(self.answer_fd)

    def ask(self, frame: bytes) -> bytes:
        """What leaves."""
        return self._run(self.ask_fd, frame)

    def answer(self, frame: bytes) -> bytes:
        """What arrives."""
        return self._run(self.answer_fd, frame)

    @staticmethod
    def _run(fd: int, frame: bytes) -> bytes:
        verdict, out, _ = bpf.run_program(fd, frame)
        assert verdict == 0xFFFF_FFFF, "go on as if we were not there"
        return out

    def both(self, leaving: bool, frame: bytes) -> None:
        """Program and model must agree."""
        verdict, out, _ = bpf.run_program(self.ask_fd if leaving else self.answer_fd, frame)
        expected, modelled = (reference.ask if leaving else reference.answer)(self.tables, frame)
        assert verdict == expected % (1 << 32), frame.hex()
        if expected is not Verdict.SHOT:
            assert out == modelled, f"{frame.hex()}\n{out.hex()}\n{modelled.hex()}"


def number(address: Address) -> int:
    """As the model has it."""
    high, low = words(address)
    return high << 64 | low


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    made = Programs()
    yield made
    made.close()


_PORTS = itertools.count(20_000)


@pytest.fixture
def port() -> int:
    """Of our own, that no test before used."""
    return next(_PORTS)


# -------------------------------------------------------------------- byte for byte


def packet(source: Address, destination: Address, inner: Packet, mac: str = NOBODY) -> bytes:
    """With checksums that are right."""
    layer = IP(src=str(source), dst=str(destination), ttl=64, id=7) if source.version == 4 else None
    header = layer or IPv6(src=str(source), dst=str(destination), hlim=64)
    return bytes(Ether(dst=mac, src=OUR_MAC) / header / inner)


def carriers(own: int, back: bool) -> list[Packet]:
    sport, dport = (80, own) if back else (own, 80)
    return [
        TCP(sport=sport, dport=dport, flags="SA" if back else "S", seq=1, options=[("MSS", 1460)]),
        TCP(sport=sport, dport=dport, flags="PA", seq=2, ack=3) / Raw(b"odd"),
        UDP(sport=sport, dport=dport) / Raw(b"odd"),
        UDP(sport=sport, dport=dport),
    ]


@FAMILIES
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("carrier", range(4))
def test_there_and_back(programs: Programs, family: Family, which: int, carrier: int, port: int) -> None:
    probe, virtual, own = family.probes[which], family.virtual, family.own
    there, back = carriers(port, False)[carrier], carriers(port, True)[carrier]
    assert programs.ask(packet(own, probe, there)) == packet(own, virtual, there, MACS[which])
    assert programs.answer(packet(virtual, own, back, OUR_MAC)) == packet(probe, own, back, OUR_MAC)


@FAMILIES
def test_what_was_not_asked_is_left_alone(programs: Programs, family: Family, port: int) -> None:
    for back in carriers(port, True):
        frame = packet(family.virtual, family.own, back, OUR_MAC)
        assert programs.answer(frame) == frame
    for there in carriers(port, False):
        frame = packet(family.own, family.stranger, there)
        assert programs.ask(frame) == frame


@FAMILIES
def test_a_datagram_and_a_segment_are_told_apart(programs: Programs, family: Family, port: int) -> None:
    programs.ask(packet(family.own, family.probes[0], UDP(sport=port, dport=80)))
    frame = packet(family.virtual, family.own, TCP(sport=80, dport=port, flags="SA"), OUR_MAC)
    assert programs.answer(frame) == frame


@FAMILIES
@pytest.mark.parametrize("own", [TCP(flags="S"), UDP()], ids=["tcp", "udp"])
def test_a_connection_of_our_own_voids_the_note(programs: Programs, family: Family, own: Packet, port: int) -> None:
    """From a port that a check used before."""
    own.sport, own.dport = port, 80
    programs.ask(packet(family.own, family.probes[0], own))
    mine = packet(family.own, family.virtual, own, MACS[0])
    assert programs.ask(mine) == mine
    back = own.copy()
    back.sport, back.dport = 80, port
    frame = packet(family.virtual, family.own, back, OUR_MAC)
    assert programs.answer(frame) == frame


def test_no_checksum_stays_none(programs: Programs, port: int) -> None:
    there = UDP(sport=port, dport=80, chksum=0) / Raw(b"x")
    assert programs.ask(packet(V4.own, V4.probes[0], there)) == packet(V4.own, V4.virtual, there, MACS[0])


def error(family: Family, router: Address, quoted: Address, inner: Packet) -> bytes:
    """A port that is unreachable, as `router` says of a packet of ours to `quoted`."""
    if family is V4:
        head = IPerror(src=str(family.own), dst=str(quoted), ttl=64, id=7)
        error_: Packet = ICMP(type=3, code=3) / head
    else:
        error_ = ICMPv6DestUnreach(code=4) / IPerror6(src=str(family.own), dst=str(quoted), hlim=64)
    return packet(router, family.own, error_ / inner, OUR_MAC)


@FAMILIES
@pytest.mark.parametrize("kind", [(TCP, TCPerror), (UDP, UDPerror)], ids=["tcp", "udp"])
@pytest.mark.parametrize("sender", ["the real, as the virtual", "another"])
def test_errors_are_answers(
    programs: Programs, family: Family, kind: tuple[type[Packet], type[Packet]], sender: str, port: int
) -> None:
    plain, quoted = kind
    programs.ask(packet(family.own, family.probes[1], plain(sport=port, dport=80)))
    inner = quoted(sport=port, dport=80, chksum=0x1234)
    as_virtual = sender != "another"
    came = error(family, family.virtual if as_virtual else family.stranger, family.virtual, inner)
    wanted = error(family, family.probes[1] if as_virtual else family.stranger, family.probes[1], inner)
    assert programs.answer(came) == wanted


@FAMILIES
def test_errors_about_what_was_not_asked_are_left_alone(programs: Programs, family: Family, port: int) -> None:
    for quoted in (family.virtual, family.stranger):
        frame = error(family, family.virtual, quoted, UDPerror(sport=port, dport=80, chksum=0x1234))
        assert programs.answer(frame) == frame


# -------------------------------------------------------------------- against the model


_SHORTEST = {4: 34, 6: 54}
"""The kernel's test run takes no frame without its whole IP header."""


@dataclass(frozen=True)
class Sent:
    """A frame of few addresses and ports, right or not. own: which of our ports. about: what an ICMP error quotes."""

    leaving: bool
    family: Family
    ends: tuple[int, int]
    protocol: int
    own: int
    virtual_port: int
    flags: int
    checksum: int
    odd: tuple[int, int, int] = (0, 0, 0)
    cut: int = 0
    about: Sent | None = field(default=None)

    def frame(self, first_port: int) -> bytes:
        """As it is sent; own ports begin there."""
        kind = 0x0800 if self.family is V4 else 0x86DD
        whole = raw(OUR_MAC) + raw(NOBODY) + struct.pack("!H", kind) + self.headers(first_port)
        return whole[: max(_SHORTEST[self.family.own.version], len(whole) - self.cut)]

    def headers(self, first_port: int) -> bytes:
        """From the IP header on."""
        ports = first_port + self.own, self.virtual_port
        inner = struct.pack("!HH", *(ports if self.leaving else reversed(ports)))
        if self.protocol == 6:
            inner += struct.pack("!IIBBHHH", 1, 2, 0x50, self.flags, 100, self.checksum, 0)
        elif self.protocol == 17:
            inner += struct.pack("!HH", 8, self.checksum)
        elif self.about is not None:
            kind = self.flags % 14 if self.protocol == 1 else self.flags % 6
            inner = struct.pack("!BBHI", kind, 0, self.checksum, 0) + self.about.headers(first_port)
        source, destination = (self.family.all[end].packed for end in self.ends)
        version, words_, fragment = self.odd
        if self.family is V4:
            head = struct.pack(
                "!BBHHHBBH",
                (4 + version) << 4 | (5 + words_),
                0,
                20 + len(inner),
                7,
                fragment,
                64,
                self.protocol,
                0x4321,
            )
        else:
            head = struct.pack("!IHBB", (6 + version) << 28, len(inner), self.protocol, 64)
        return head + source + destination + inner


ends = st.tuples(st.integers(0, 4), st.integers(0, 4))
usual_ends = st.sampled_from(((3, 0), (3, 1), (3, 2), (2, 3), (2, 3), (4, 3)))
odd = st.one_of(
    st.just((0, 0, 0)), st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from((0, 0x4000, 0x2000, 5)))
)
checksums = st.one_of(st.sampled_from((0, 0xFFFF, 1)), st.integers(0, 0xFFFF))


def packets(about: st.SearchStrategy[Sent | None], leaving: st.SearchStrategy[bool]) -> st.SearchStrategy[Sent]:
    return st.builds(
        Sent,
        leaving,
        st.sampled_from((V4, V6)),
        st.one_of(usual_ends, usual_ends, ends),
        st.sampled_from((6, 6, 17, 17, 1, 58, 132)),
        st.integers(0, 1),
        st.sampled_from((80, 53)),
        st.integers(0, 255),
        checksums,
        st.one_of(st.just((0, 0, 0)), odd),
        st.one_of(st.just(0), st.just(0), st.integers(0, 70)),
        about,
    )


quoted = packets(st.none(), st.just(True))
sent = packets(st.one_of(st.none(), quoted, quoted), st.booleans())
_FIRST_PORTS = itertools.count(30_000, 2)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(sent, max_size=25))
def test_the_model_agrees(programs: Programs, story: list[Sent]) -> None:
    """Each story has ports of its own, so that nothing of the one before matters."""
    first_port = next(_FIRST_PORTS) % 30_000 + 30_000
    for one in story:
        programs.both(one.leaving, one.frame(first_port))
