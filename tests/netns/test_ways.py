"""Routes and the ways to reals, on a real cable: looked up, followed, kept as long as there is no other."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from lb import namespaces, netif
from lb.errors import NetworkError
from lb.netif import Route, Ways
from lb.service import Hop, Way
from tests.netns.conftest import ip
from tests.netns.test_netif import PEER, run_in, until

REAL = IPv4Address("198.51.100.7")
OURS = IPv4Address("10.77.0.1")
SECOND = IPv4Address("10.77.0.22")


def route(namespace: str, *words: str) -> None:
    ip("-n", namespace, "route", *words)


def mac_of(namespace: str) -> bytes:
    return bytes.fromhex(
        ip("-n", namespace, "link", "show", "eth0").split("link/ether ")[1].split()[0].replace(":", "")
    )


async def ways(told: list[int], *interfaces: str) -> Ways:
    found = Ways(interfaces, lambda: told.append(1))
    await found.start()
    return found


def test_a_route_is_what_ip_says(segment: tuple[str, str]) -> None:
    with namespaces.inside(segment[0], "here"):
        assert netif.route(PEER) == Route("eth0", None, OURS, 1500)
        with pytest.raises(NetworkError, match=r"no route to 198\.51\.100\.7: .*ip route get"):
            netif.route(REAL)
        with pytest.raises(NetworkError, match=r"10\.77\.0\.1 is not another host's"):
            netif.route(OURS)
        route(segment[0], "add", "198.51.100.0/24", "via", str(PEER), "mtu", "1400")
        assert netif.route(REAL) == Route("eth0", PEER, OURS, 1400)
        route(segment[0], "replace", "198.51.100.0/24", "via", "inet6", "fe80::1", "dev", "eth0")
        assert netif.route(REAL) == Route("eth0", IPv6Address("fe80::1"), OURS, 1500)
        route(segment[0], "replace", "blackhole", "198.51.100.0/24")
        with pytest.raises(NetworkError, match="no route"):
            netif.route(REAL)


def test_a_tunnel_follows_its_route(segment: tuple[str, str]) -> None:
    here, there = segment

    async def main() -> None:
        told: list[int] = []
        found = await ways(told, "eth0")
        found.want([], [PEER], [REAL])
        await until(lambda: found.hop(PEER, "gate").mac)
        assert found.hop(PEER, "gate") == Hop(mac_of(there))
        assert found.hop(REAL, "ipip") == Hop()

        route(here, "add", f"{REAL}/32", "via", str(PEER))
        await until(lambda: found.hop(REAL, "ipip").mac)
        assert found.hop(REAL, "ipip") == Hop(mac_of(there), Way(OURS, 1500))

        ip("-n", here, "address", "add", "10.77.0.33/24", "dev", "eth0")
        route(here, "replace", f"{REAL}/32", "via", str(PEER), "mtu", "1300", "src", "10.77.0.33")
        await until(lambda: found.hop(REAL, "ipip").way == Way(IPv4Address("10.77.0.33"), 1300))
        ip("-n", here, "link", "set", "eth0", "mtu", "1200")
        route(here, "replace", f"{REAL}/32", "via", str(PEER))
        await until(lambda: found.hop(REAL, "ipip").way == Way(OURS, 1200))
        assert told
        found.close()

    run_in(here, main)


def test_a_way_stays_until_the_next_router_is_known(segment: tuple[str, str]) -> None:
    here, there = segment

    async def main() -> None:
        found = await ways([], "eth0")
        route(here, "add", f"{REAL}/32", "via", str(PEER))
        found.want([], [], [REAL])
        await until(lambda: found.hop(REAL, "ipip").mac)
        before = found.hop(REAL, "ipip")
        route(here, "del", f"{REAL}/32")
        await until(lambda: found._routes._lost)
        assert found.hop(REAL, "ipip") == before

        route(here, "add", f"{REAL}/32", "via", str(SECOND))
        await until(lambda: found._routes.route(REAL) == Route("eth0", SECOND, OURS, 1500))
        assert found.hop(REAL, "ipip") == before
        ip("-n", here, "neigh", "replace", str(SECOND), "lladdr", "02:00:00:00:00:22", "dev", "eth0")
        await until(lambda: found.hop(REAL, "ipip").mac == bytes.fromhex("020000000022"))
        assert mac_of(there) == before.mac
        found.want([], [], [])
        assert found.hop(REAL, "ipip") == Hop()
        found.close()

    run_in(here, main)


def test_a_route_by_another_interface_is_none(segment: tuple[str, str]) -> None:
    here = segment[0]

    async def main() -> None:
        ip("-n", here, "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
        ip("-n", here, "address", "add", "10.78.0.1/24", "dev", "eth1")
        for name in ("eth1", "eth2"):
            ip("-n", here, "link", "set", name, "up")
        route(here, "add", f"{REAL}/32", "via", "10.78.0.2")
        ip("-n", here, "neigh", "replace", "10.78.0.2", "lladdr", "02:00:00:00:00:78", "dev", "eth1")
        found = await ways([], "eth0")
        found.want([], [], [REAL])
        assert found.hop(REAL, "ipip") == Hop()
        route(here, "replace", f"{REAL}/32", "via", str(PEER))
        await until(lambda: found.hop(REAL, "ipip").mac)
        found.close()

    run_in(here, main)


def test_two_interfaces(segment: tuple[str, str]) -> None:
    here = segment[0]

    async def main() -> None:
        ip("-n", here, "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
        ip("-n", here, "address", "add", "10.78.0.1/24", "dev", "eth1")
        for name in ("eth1", "eth2"):
            ip("-n", here, "link", "set", name, "up")
        inner, routed = IPv4Address("10.78.0.7"), IPv4Address("10.79.0.7")
        route(here, "add", f"{routed}/32", "via", str(inner))
        ip("-n", here, "neigh", "replace", str(inner), "lladdr", "02:00:00:00:00:78", "dev", "eth1")
        found = await ways([], "eth0", "eth1")
        found.want([], [PEER, inner, routed], [routed])
        own = {name: netif.link(name) for name in ("eth0", "eth1")}
        mac = bytes.fromhex("020000000078")
        by_inner = Way(IPv4Address("10.78.0.1"), 1500, own["eth1"].index, own["eth1"].mac)
        assert found.hop(inner, "gate") == found.hop(routed, "ipip") == Hop(mac, by_inner)
        assert found.hop(routed, "gate") == Hop(), "gate reaches neighbours only"
        await until(lambda: found.hop(PEER, "gate").mac)
        assert found.hop(PEER, "gate").way == Way(OURS, 1500, own["eth0"].index, own["eth0"].mac)
        found.close()

    run_in(here, main)
