"""Services for several addresses, ports and protocols at once."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest

from lb.connections import CONNECTION, Rows
from lb.datapath.view import View
from lb.service import Service, ServiceKey
from lb.tcp import State
from tests.packet.world import (
    CLIENT,
    TCP6_KEY,
    TCP_KEY,
    VIRTUAL,
    VIRTUAL6,
    World,
    gated,
    limited,
    mac_of,
    passed,
    real,
    real6,
    tcp,
    tcp6,
    udp,
    udp6,
)

THREE = (real(1), real(2), real(3))
HTTPS, QUIC, OTHER = TCP_KEY._replace(port=443), ServiceKey(VIRTUAL, 443, 17), ServiceKey(VIRTUAL + 1, 80, 6)
GROUP = Service(TCP_KEY, "rr", THREE, also=(HTTPS, QUIC, OTHER))
STICKY = replace(GROUP, persistent_s=300)


def test_all_of_a_group_take_turns_together(again: World) -> None:
    again.apply(GROUP)
    sent = [tcp(), tcp(dport=443), udp(dport=443), tcp(virtual=VIRTUAL + 1), tcp(port=1001, dport=443)]
    with again.counting(tx_packets=5):
        assert [again.send(frame) for frame in sent] == [
            gated(frame, mac_of(number)) for frame, number in zip(sent, (1, 2, 3, 1, 2), strict=True)
        ]
    keys = sorted((int(key["virtual"]), int(key["virtual_port"]), int(key["protocol"])) for key, _ in again.entries())
    first = int(VIRTUAL)
    assert keys == [(first, 80, 6), (first, 443, 6), (first, 443, 6), (first, 443, 17), (first + 1, 80, 6)]


def test_what_belongs_to_no_group_is_nobodys(again: World) -> None:
    again.apply(GROUP)
    for frame in (tcp(dport=444), udp(), tcp(virtual=VIRTUAL + 1, dport=443)):
        with again.counting(passed=1):
            assert again.send(frame) == passed(frame)
    foreign = udp(virtual=VIRTUAL + 1, dport=80)
    with again.counting():
        assert again.send(foreign) == passed(foreign)
    assert again.entries() == []


def test_a_client_has_one_real_over_all_of_them(again: World) -> None:
    again.apply(STICKY)
    for client, home in (("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)):
        frames = [
            tcp(client=client), tcp(client=client, dport=443), udp(client=client, dport=443),
            tcp(client=client, virtual=VIRTUAL + 1), tcp("S", 2000, client, dport=443),
        ]  # fmt: skip
        assert [again.send(frame) for frame in frames] == [gated(frame, mac_of(home)) for frame in frames]
    templates = [(key, value) for key, value in again.entries() if key["template"]]
    assert {(int(k["virtual"]), int(k["virtual_port"]), int(k["protocol"])) for k, _ in templates} == {
        (int(VIRTUAL), 80, 6)
    }
    assert len(templates) == 3


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_client_may_begin_with_any_of_them(again: World, first: int) -> None:
    """Its template is that of the first pair, whichever it came by."""
    again.apply(STICKY)
    frames = [tcp(), tcp(dport=443), udp(dport=443), tcp(virtual=VIRTUAL + 1)]
    assert again.send(frames[first])[1][:6] == mac_of(1)
    (template,) = [key for key, _ in again.entries() if key["template"]]
    assert [int(template[name]) for name in ("client", "virtual", "client_port", "virtual_port", "protocol")] == [
        int(IPv4Address(CLIENT)), int(VIRTUAL), 0, 80, 6
    ]  # fmt: skip
    assert {again.send(frame)[1][5] for frame in frames} == {1}


def test_ipv6(again: World) -> None:
    further = TCP6_KEY._replace(port=443), ServiceKey(VIRTUAL6 + (1 << 64), 0, 17)
    again.apply(
        Service(TCP6_KEY, "rr", (real6(1), real6(2)), persistent_s=300, netmask=64, also=further),
        replace(STICKY, also=(HTTPS,)),
    )
    for client, home in (("2001:db8:c:1::1", 1), ("2001:db8:c:2::1", 2), ("2001:db8:c:1::2", 1)):
        frames = [
            tcp6(client=client),
            tcp6(client=client, dport=443),
            udp6(client=client, virtual=VIRTUAL6 + (1 << 64), dport=4711),
        ]
        assert [again.send(frame) for frame in frames] == [gated(frame, mac_of(home)) for frame in frames]
    found = {tuple(int(word) for word in key["virtual"]) for key, _ in again.entries() if key["template"]}
    assert found == {(int(VIRTUAL6) >> 64, int(VIRTUAL6) & ((1 << 64) - 1))}
    assert [again.real_of(frame) for frame in (tcp(dport=443), tcp())] == [1, 1], "IPv4's has turns of its own"


def test_every_port_of_an_address_in_a_group(again: World) -> None:
    again.apply(replace(GROUP, also=(OTHER._replace(port=0),)), Service(OTHER._replace(port=8080), "rr", (real(9),)))
    frames = [tcp(), *(tcp(virtual=VIRTUAL + 1, dport=port) for port in (1, 65535, 8080))]
    assert [again.send(frame)[1][5] for frame in frames] == [1, 2, 3, 9]


def test_counts_and_thresholds_are_the_groups(again: World) -> None:
    again.apply(Service(TCP_KEY, "wlc", (limited(1, 2), real(2)), also=(HTTPS,)))
    homes = [again.send(tcp("S", 1000 + n, dport=(80, 443)[n % 2]))[1][5] for n in range(6)]
    assert homes == [1, 2, 1, 2, 2, 2], "real 1 is full with one connection on either port"
    (held,) = again.data.held()
    assert [d.active for d in held.destinations] == [2, 4]
    assert (held.key, held.also) == (TCP_KEY, (HTTPS,))


def test_a_port_that_joins_a_group_keeps_its_connections(again: World) -> None:
    apart = replace(GROUP, also=()), Service(HTTPS, "rr", (real(3), real(4)))
    again.apply(*apart)
    assert again.real_of(tcp()) == 1
    assert [again.real_of(tcp("S", port, dport=443)) for port in (1, 2)] == [3, 4]
    again.apply(replace(GROUP, also=(HTTPS,)))
    assert [again.real_of(tcp("A", port, dport=443)) for port in (1, 2)] == [3, 4]
    assert again.real_of(tcp("A")) == 1
    assert {again.real_of(tcp("S", port, dport=443)) for port in (3, 4, 5)} == {1, 2, 3}
    again.apply(*apart)
    assert [again.real_of(tcp("A", port, dport=443)) for port in (1, 2)] == [3, 4]


def row(number: int, **fields: int) -> Rows:
    """A connection to a real, as another director tells it."""
    made = np.zeros(1, CONNECTION)
    usual = {
        "client": int(IPv4Address(CLIENT)), "virtual": int(VIRTUAL), "real": int(real(number).address),
        "client_port": 1000, "virtual_port": 443, "protocol": 6, "state": State.ESTABLISHED,
    }  # fmt: skip
    for name, value in (usual | fields).items():
        made[name] = value
    return made


def test_another_directors_connections_and_templates(again: World) -> None:
    again.apply(STICKY)
    assert again.data.install(row(3)) == (1, 0)
    assert again.real_of(tcp("A", dport=443)) == 3
    assert again.data.install(row(2, virtual=int(VIRTUAL) + 1, virtual_port=80)) == (1, 0)
    assert again.real_of(tcp("A", virtual=VIRTUAL + 1)) == 2
    assert again.data.install(row(2, protocol=17, state=State.UDP)) == (1, 0)
    assert again.data.install(row(2, virtual_port=444)) == (0, 1)
    template = {"client_port": 0, "state": State.TEMPLATE}
    assert again.data.install(row(2, virtual_port=80, **template)) == (1, 0)
    assert again.real_of(tcp("S", 2000, dport=443)) == 2
    assert again.data.install(row(2, **template)) == (0, 0), "templates are the first pair's"


def test_a_group_is_known_before_one_of_its_ports_alone(again: World) -> None:
    """Of the two rows that a real then has, the one that schedulers and status count."""
    again.apply(replace(GROUP, also=()), Service(HTTPS, "rr", (real(3),)))
    again.real_of(tcp("S", 1, dport=443))
    again.apply(GROUP)
    assert again.data.install(row(3)) == (1, 0)
    (held,) = again.data.held()
    assert [d.active for d in held.destinations] == [0, 0, 1]


def test_templates_last_while_a_connection_to_any_of_the_group_is_there(again: World) -> None:
    again.apply(STICKY)
    again.send(udp(dport=443))
    for key, value in again.entries():
        if key["template"]:
            value["last_seen_t"] = View.now_t() - 1000
            again.maps["connections"].update(np.array([key]), np.array([value]))
    again.data.sweep()
    assert [bool(key["template"]) for key, _ in again.entries()].count(True) == 1
    assert again.real_of(tcp("S", 7)) == 1
