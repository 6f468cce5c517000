"""The specification itself, by a few facts counted by hand; tests/packet/test_reference.py holds the program to it."""

from __future__ import annotations

import re
from importlib import resources
from ipaddress import IPv4Address

import pytest

from lb import abi
from lb.reference import control
from lb.reference.control import Told
from lb.reference.maps import Configuration, ConnectionKey, Maps, RealKey
from lb.reference.packet import receive
from lb.reference.stats import Outcome, Verdict
from lb.service import Destination, Service, ServiceKey
from lb.tcp import TIMEOUTS_S, State

OURS, CLIENTS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ONE, TWO = bytes.fromhex("020000000101"), bytes.fromhex("020000000102")
KEY = ServiceKey(IPv4Address("192.0.2.10"), 80, 6)
FIRST, SECOND = Destination(IPv4Address("192.0.2.101"), 1, ONE), Destination(IPv4Address("192.0.2.102"), 1, TWO)
BOTH = Configuration((Service(KEY, "rr", (FIRST, SECOND)),), OURS)
NOW_NS = 1000 << abi.TICK_SHIFT


def segment(flags: int, port: int = 1000) -> bytes:
    """10.0.0.1 to 192.0.2.10:80, without data."""
    ip = bytes.fromhex("45000028 00010000 40060000 0a000001 c000020a")
    tcp = port.to_bytes(2, "big") + bytes.fromhex("0050 00000000 00000000 50") + bytes((flags,)) + bytes(6)
    return OURS + CLIENTS + b"\x08\x00" + ip + tcp


SYN, ACK = segment(0x02), segment(0x10)


@pytest.fixture
def maps() -> Maps:
    """As after the first apply."""
    made = Maps()
    control.apply(made, BOTH)
    return made


def test_a_connections_first_packet(maps: Maps) -> None:
    outcome, out = receive(BOTH, maps, SYN, NOW_NS)
    assert (outcome, outcome.verdict, out) == (Outcome.TX, Verdict.TX, ONE + OURS + SYN[12:])
    assert not maps.connections
    (young,) = maps.embryos
    assert young.key == (0x0A000001, 0xC000020A, 1000, 80, 6, 0)
    assert (young.real.address, young.state, young.last_seen_t) == (FIRST.address, State.SYN_RECV, 1000)
    assert list(maps.drain_events()) == []
    assert maps.counters == {"tx_packets": 1}
    real = maps.reals[RealKey(KEY, FIRST.address)]
    assert (real.packets, real.bytes, real.connections) == (1, 40, 1)


def test_its_second_packet(maps: Maps) -> None:
    for frame in (SYN, SYN, ACK):
        assert receive(BOTH, maps, frame, NOW_NS)[1][:6] == ONE
    assert list(maps.embryos) == []
    ((key, entry),) = maps.connections.items()
    assert (entry.real.address, entry.state, entry.last_seen_t, entry.synced_t) == (
        FIRST.address, State.ESTABLISHED, 1000, 1000,
    )  # fmt: skip
    assert [tuple(event) for event in maps.drain_events()] == [(key, FIRST.address, State.ESTABLISHED, 1000)]
    assert maps.reals[RealKey(KEY, FIRST.address)].connections == 1


def test_a_flood_moves_half_open_connections_only(maps: Maps) -> None:
    """In one set; the oldest goes first, and one that is told again is young."""
    for number, port in enumerate((1, 2, 3, 4, 1, 5)):
        receive(BOTH, maps, segment(2, port), NOW_NS + number * 10**7)
    assert sorted(young.key.client_port for young in maps.embryos) == [1, 3, 4, 5]
    receive(BOTH, maps, segment(16, 3), NOW_NS + 10**8)
    for number in range(6, 20):
        receive(BOTH, maps, segment(2, number), NOW_NS + number * 10**7)
    assert [key.client_port for key in maps.connections] == [3]
    load = [maps.reals[RealKey(KEY, real.address)].load for real in (FIRST, SECOND)]
    assert sum(counts.active for counts in load) == 5


def test_turns_and_known_connections(maps: Maps) -> None:
    sent = [receive(BOTH, maps, frame, NOW_NS)[1][:6] for frame in (SYN, segment(2, 1001), ACK, segment(2, 1002))]
    assert sent == [ONE, TWO, ONE, ONE]


@pytest.mark.parametrize(("late_t", "outcome"), [(0, Outcome.TX), (1, Outcome.NO_LEASE)])
def test_the_last_tick_of_a_life(maps: Maps, late_t: int, outcome: Outcome) -> None:
    receive(BOTH, maps, SYN, NOW_NS)
    receive(BOTH, maps, ACK, NOW_NS)
    end_t = 1000 + abi.ticks(TIMEOUTS_S[State.ESTABLISHED]) + late_t
    assert receive(BOTH, maps, ACK, end_t << abi.TICK_SHIFT)[0] is outcome


def test_connections_outlive_their_reals_place(maps: Maps) -> None:
    receive(BOTH, maps, SYN, NOW_NS)
    alone = Configuration((Service(KEY, "rr", (SECOND,)),), OURS)
    control.apply(maps, alone)
    assert receive(alone, maps, ACK, NOW_NS)[1][:6] == ONE
    assert [receive(alone, maps, segment(2, port), NOW_NS)[1][:6] for port in (1, 2)] == [TWO, TWO]
    assert control.sweep(maps, alone, NOW_NS) == (3, 0, 0)
    late_ns = NOW_NS + 10**13
    assert [control.sweep(maps, alone, late_ns) for _ in range(2)] == [(0, 3, 0), (0, 0, 1)]


def test_what_a_peer_tells(maps: Maps) -> None:
    key = ConnectionKey(0x0A000001, 0xC000020A, 1000, 80, 6)
    told = [
        Told(key, SECOND.address, State.ESTABLISHED, 5),
        Told(key._replace(client_port=1), IPv4Address("192.0.2.99"), State.ESTABLISHED, 0),
        Told(key._replace(client_port=2), SECOND.address, State.UDP, 0),
    ]
    assert control.install(maps, BOTH, told, NOW_NS) == (1, 1)
    assert receive(BOTH, maps, ACK, NOW_NS)[1][:6] == TWO


def claim(mac: bytes) -> bytes:
    """192.0.2.10 is at `mac`."""
    arp = bytes.fromhex("0001 0800 06 04 0001") + mac + bytes.fromhex("c000020a 000000000000 c000020a")
    return b"\xff" * 6 + mac + b"\x08\x06" + arp


@pytest.mark.parametrize(("mac", "after"), [(ONE, Outcome.ARP_NO_LEASE), (OURS, Outcome.PASSED)])
def test_a_rivals_claim_ends_the_lease(maps: Maps, mac: bytes, after: Outcome) -> None:
    control.renew_lease(maps, 60, NOW_NS)
    assert receive(BOTH, maps, claim(mac), NOW_NS) == (Outcome.FOREIGN if mac == ONE else Outcome.PASSED, claim(mac))
    assert receive(BOTH, maps, claim(OURS), NOW_NS)[0] is after


def test_unknown_and_finished_connections_are_referred(maps: Maps) -> None:
    control.renew_lease(maps, 60, NOW_NS)
    for frame in (SYN, ACK, segment(0x11)):
        receive(BOTH, maps, frame, NOW_NS)
    control.refer_to(maps, (TWO,), 30, NOW_NS)
    for frame in (ACK, segment(0x10, 1001)):
        assert receive(BOTH, maps, frame, NOW_NS) == (Outcome.REFERRED, TWO + OURS + frame[12:])
        returned = frame[:6] + TWO + frame[12:]
        assert receive(BOTH, maps, returned, NOW_NS)[0] is not Outcome.REFERRED
    assert len(maps.connections) == 1
    assert receive(BOTH, maps, ACK, NOW_NS + 30 * 10**9)[1][:6] == ONE


@pytest.mark.parametrize("length", range(14, len(SYN)))
def test_a_packet_that_is_cut_off(maps: Maps, length: int) -> None:
    outcome, out = receive(BOTH, maps, SYN[:length], NOW_NS)
    assert outcome is (Outcome.FOREIGN if length < 34 else Outcome.MALFORMED)
    assert out == SYN[:length]


def test_every_counter_of_the_program_is_an_outcome() -> None:
    header = resources.files("bpf").joinpath("abi.h").read_text()
    rows = dict(re.findall(r"\t_\((\w+), XDP_(\w+)\)", header))
    assert rows == {o.value: o.verdict.name for o in Outcome if o is not Outcome.FOREIGN}
