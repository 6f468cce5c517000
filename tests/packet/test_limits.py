"""Clients that are denied, and clients that are too fast."""

from __future__ import annotations

import time
from ipaddress import IPv4Network, IPv6Network

import pytest

from lb.limits import DenyList, Limits
from lb.service import Service
from tests.packet.world import TCP6_KEY, TCP_KEY, World, dropped, gated, mac_of, real, real6, tcp, tcp6, udp

LISTS = Limits(
    deny=(
        DenyList("abuse", (IPv4Network("10.66.0.0/16"), IPv4Network("10.0.0.7/32"))),
        DenyList("worse", (IPv4Network("10.66.6.0/24"),)),
    )
)


@pytest.fixture
def denying(again: World) -> World:
    """Two lists, one real."""
    again.data.limits = LISTS
    again.apply_reals(real(1))
    return again


@pytest.mark.parametrize("make", [tcp, udp])
@pytest.mark.parametrize(
    ("client", "name"),
    [
        ("10.65.255.255", None),
        ("10.66.0.0", "abuse"),
        ("10.66.255.255", "abuse"),
        ("10.67.0.0", None),
        ("10.66.6.1", "worse"),
        ("10.0.0.6", None),
        ("10.0.0.7", "abuse"),
        ("10.0.0.8", None),
    ],
)
def test_who_is_on_which_list(denying: World, make: object, client: str, name: str | None) -> None:
    frame: bytes = make(client=client)  # type: ignore[operator]
    before = denying.data.denied()
    with denying.counting(**{"drop_denied" if name else "tx_packets": 1}):
        assert denying.send(frame) == (dropped(frame) if name else gated(frame, mac_of(1)))
    after = denying.data.denied()
    assert [other for other in after if after[other] > before[other]] == ([name] if name else [])
    assert not (name and denying.entries())


@pytest.mark.parametrize(
    ("prefix", "client", "denied"),
    [
        ("2001:db8:c::/47", "2001:db8:d:ffff::1", True),
        ("2001:db8:c::/47", "2001:db8:e::1", False),
        ("2001:db8:c::7/128", "2001:db8:c::7", True),
        ("2001:db8:c::7/128", "2001:db8:c::6", False),
        ("::/0", "2001:db8:c::1", True),
    ],
)
def test_ipv6_clients(again: World, prefix: str, client: str, denied: bool) -> None:
    """A prefix of one family says nothing of the other, not even the empty one."""
    again.data.limits = Limits(deny=(DenyList("six", (IPv6Network(prefix),)),))
    again.apply(Service(TCP6_KEY, "rr", (real6(1),)), Service(TCP_KEY, "rr", (real(1),)))
    frame, before = tcp6(client=client), again.data.denied()["six"]
    with again.counting(**{"drop_denied" if denied else "tx_packets": 1}):
        assert again.send(frame) == (dropped(frame) if denied else gated(frame, mac_of(1)))
    assert again.real_of(tcp()) == 1
    assert again.data.denied() == {"six": before + denied}


def test_a_reload_denies_open_connections_and_lets_them_go_on(again: World) -> None:
    again.data.limits = Limits()
    again.apply_reals(real(1))
    client = "10.66.0.1"
    for flags in ("S", "A", "A"):
        again.send(tcp(flags, client=client))
    again.data.limits = LISTS
    again.apply_reals(real(1))
    with again.counting(drop_denied=3):
        for _ in range(3):
            assert again.send(tcp("A", client=client)) == dropped(tcp("A", client=client))
    again.data.limits = Limits()
    again.apply_reals(real(1))
    assert again.send(tcp("A", client=client)) == gated(tcp("A", client=client), mac_of(1))


def test_counts_of_lists_outlive_programs(denying: World) -> None:
    before = denying.data.denied()["worse"]
    denying.send(tcp(client="10.66.6.6"))
    denying.data.limits = Limits(deny=LISTS.deny[1:])
    denying.apply_reals(real(1))
    denying.send(tcp(client="10.66.6.6"))
    assert denying.data.denied() == {"worse": before + 2}


def test_a_client_that_is_too_fast(again: World) -> None:
    hour_ns = 3600 * 10**9
    again.data.limits = Limits(interval_ns=hour_ns, burst=3)
    again.apply_reals(real(1))
    with again.counting(tx_packets=3):
        for port in (1, 2, 3):
            assert again.send(tcp("S", port)) == gated(tcp("S", port), mac_of(1))
    with again.counting(drop_too_fast=2):
        assert again.send(tcp("S", 4)) == dropped(tcp("S", 4))
        assert again.send(udp(4)) == dropped(udp(4))
    with again.counting(tx_packets=4):
        assert again.real_of(tcp("S", 4, client="10.0.0.2")) == 1, "others may"
        assert {again.real_of(tcp(flags, 1)) for flags in ("S", "A", "A")} == {1}, "what is open goes on"
    assert again.data.limits.interval_ns == hour_ns


def test_a_pause_gives_new_tokens(again: World) -> None:
    again.data.limits = Limits(interval_ns=50_000_000, burst=2)
    again.apply_reals(real(1))
    assert {again.real_of(udp(port)) for port in (1, 2)} == {1}
    deadline, port = time.monotonic() + 10, 3
    while again.send(udp(port))[0] != 3:
        assert time.monotonic() < deadline, "no token came"
        port += 1
    assert again.real_of(udp(port)) == 1
