"""Links, addresses, neighbours and the watch, on a real cable between two namespaces, under uvloop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
import uvloop

from lb import namespaces, netif
from lb.addresses import Address, Interface
from lb.errors import NetworkError
from lb.netif import InterfaceWatch, Link, Neighbours, rtnl, sysctl, wiring
from tests.netns.conftest import ip

PEER = IPv4Address("10.77.0.2")
LATER = IPv4Address("10.77.0.3")
VIP = IPv4Address("10.77.0.100")


def run_in(namespace: str, main: Callable[[], Awaitable[None]]) -> None:
    """A coroutine under uvloop in a namespace, with a neighbour table that is quick to find out."""

    async def bounded() -> None:
        await asyncio.wait_for(main(), 30)

    with namespaces.inside(namespace, "here"):
        for name, value in {
            "base_reachable_time_ms": 100,
            "delay_first_probe_time": 0,
            "retrans_time_ms": 20,
            "locktime": 0,
        }.items():
            sysctl.write(f"net/ipv4/neigh/eth0/{name}", str(value))
        uvloop.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - it becomes true outside this loop
        await asyncio.sleep(0.005)


def set_mac(namespace: str, mac: str, announce: bool = True) -> None:
    with namespaces.inside(namespace, "there"):
        sysctl.write("net/ipv4/conf/eth0/arp_notify", "1" if announce else "0")
    ip("-n", namespace, "link", "set", "eth0", "address", mac)


def state_of(address: IPv4Address, namespace: str) -> str:
    return (ip("-n", namespace, "neigh", "show", "to", str(address)).split() or ["gone"])[-1]


class Changes(list[tuple[Address, str]]):
    """What Neighbours reported."""

    def __call__(self, address: Address, mac: bytes) -> None:
        self.append((address, mac.hex(":")))


async def neighbours(changes: Changes) -> Neighbours:
    found = Neighbours("eth0", changes)
    await found.start()
    return found


# ------------------------------------------------------------------- links, addresses


def test_a_link_is_what_ip_says(segment: tuple[str, str]) -> None:
    here, _ = segment
    ip("-n", here, "link", "set", "eth0", "address", "02:00:00:00:00:01", "mtu", "1400")
    with namespaces.inside(here, "here"):
        link = netif.link("eth0")
        assert (link.name, link.mac, link.mtu, link.up, link.carrier) == ("eth0", b"\x02\0\0\0\0\x01", 1400, True, True)
        assert link.index == socket.if_nametoindex("eth0")


def test_the_other_end_being_down_is_no_carrier(segment: tuple[str, str]) -> None:
    here, there = segment
    ip("-n", there, "link", "set", "eth0", "down")
    with namespaces.inside(here, "here"):
        assert (netif.link("eth0").up, netif.link("eth0").carrier) == (True, False)


@pytest.mark.parametrize("name", ["eth7", "a-name-that-no-kernel-would-take"])
def test_an_unknown_link_is_told_the_known(segment: tuple[str, str], name: str) -> None:
    with namespaces.inside(segment[0], "here"), pytest.raises(NetworkError, match=rf"{name}.*\(lo, eth0\)"):
        netif.link(name)


def test_addresses_come_and_go_and_twice_is_once(segment: tuple[str, str]) -> None:
    with namespaces.inside(segment[0], "here"):
        for _ in range(2):
            netif.add_address("eth0", VIP)
        assert ("eth0", IPv4Interface(f"{VIP}/32")) in netif.addresses()
        assert VIP in netif.own_addresses()
        for _ in range(2):
            netif.remove_address("eth0", VIP)
        assert VIP not in netif.own_addresses()
        netif.remove_address("eth7", VIP)


def test_an_address_on_no_link_is_an_error(segment: tuple[str, str]) -> None:
    with namespaces.inside(segment[0], "here"), pytest.raises(NetworkError, match="no interface 'eth7'"):
        netif.add_address("eth7", VIP)


def test_the_thread_is_back_where_it_was(segment: tuple[str, str]) -> None:
    before = Path("/proc/thread-self/ns/net").readlink(), socket.gethostname()
    with namespaces.inside(segment[0], "here"):
        assert socket.gethostname() == "here"
        assert namespaces.current() == segment[0]
    with pytest.raises(NetworkError), namespaces.inside(segment[0], "here"):
        netif.link("eth7")
    assert (Path("/proc/thread-self/ns/net").readlink(), socket.gethostname()) == before


def test_checksums_are_computed_before_sending(segment: tuple[str, str]) -> None:
    with namespaces.inside(segment[0], "here"):
        wiring.compute_checksums("eth0")
        with pytest.raises(NetworkError, match="eth7"):
            wiring.compute_checksums("eth7")


# ------------------------------------------------------------------- neighbours


def test_a_neighbour_is_resolved_and_its_new_mac_followed(segment: tuple[str, str]) -> None:
    async def main() -> None:
        changes = Changes()
        found = await neighbours(changes)
        assert found.mac(PEER) is None
        found.want([PEER])
        await until(lambda: found.mac(PEER))
        set_mac(segment[1], "02:00:00:00:00:77")
        await until(lambda: found.mac(PEER) == bytes.fromhex("020000000077"))
        found.close()
        assert [address for address, _ in changes] == [PEER, PEER]
        assert changes[-1] == (PEER, "02:00:00:00:00:77")

    run_in(segment[0], main)


def test_what_the_kernel_knows_already_is_told_at_once(segment: tuple[str, str]) -> None:
    async def main() -> None:
        ip("-n", segment[0], "neigh", "replace", str(PEER), "lladdr", "02:00:00:00:00:88", "dev", "eth0")
        changes = Changes()
        found = await neighbours(changes)
        found.want([PEER])
        assert changes == [(PEER, "02:00:00:00:00:88")]
        found.want([])
        assert found.mac(PEER) is None
        found.close()

    run_in(segment[0], main)


def test_a_silent_change_of_mac_is_found_by_asking_again(segment: tuple[str, str]) -> None:
    async def main() -> None:
        found = await neighbours(Changes())
        found.want([PEER])
        await until(lambda: found.mac(PEER))
        set_mac(segment[1], "02:00:00:00:00:99", announce=False)
        await until(lambda: found.mac(PEER) == bytes.fromhex("020000000099"))
        found.close()

    run_in(segment[0], main)


def test_a_failed_neighbour_keeps_its_mac_until_it_is_back(segment: tuple[str, str]) -> None:
    async def main() -> None:
        changes = Changes()
        found = await neighbours(changes)
        found.want([PEER])
        await until(lambda: found.mac(PEER))
        known = found.mac(PEER)
        ip("-n", segment[1], "address", "flush", "dev", "eth0")
        await until(lambda: state_of(PEER, segment[0]) == "FAILED")
        assert found.mac(PEER) == known
        assert len(changes) == 1
        ip("-n", segment[1], "link", "set", "eth0", "address", "02:00:00:00:00:aa")
        ip("-n", segment[1], "address", "add", f"{PEER}/24", "dev", "eth0")
        await until(lambda: found.mac(PEER) == bytes.fromhex("0200000000aa"))
        found.close()

    run_in(segment[0], main)


def test_who_comes_later_is_found(segment: tuple[str, str]) -> None:
    async def main() -> None:
        found = await neighbours(Changes())
        found.want([LATER])
        await until(lambda: state_of(LATER, segment[0]) == "FAILED")
        assert found.mac(LATER) is None
        ip("-n", segment[1], "address", "add", f"{LATER}/24", "dev", "eth0")
        await until(lambda: found.mac(LATER))
        found.close()

    run_in(segment[0], main)


def test_events_that_were_lost_are_made_up_for(segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest buffer, and a loop that does not read while the kernel says more than fits."""

    async def main() -> None:
        monkeypatch.setattr(rtnl, "_EVENT_BUFFER_BYTES", 1)
        found = await neighbours(Changes())
        found.want([PEER])
        await until(lambda: found.mac(PEER))
        lines = [f"neigh add 10.77.0.{n} lladdr 02:00:00:00:01:{n:02x} dev eth0\n" for n in range(100, 200)]
        last = f"neigh replace {PEER} lladdr 02:00:00:00:00:bb dev eth0 nud permanent\n"
        ip("-n", segment[0], "-batch", "-", stdin="".join([*lines, last]))
        await until(lambda: found.mac(PEER) == bytes.fromhex("0200000000bb"))
        found.close()

    run_in(segment[0], main)


def test_neighbours_of_no_link_are_an_error(segment: tuple[str, str]) -> None:
    async def main() -> None:
        with pytest.raises(NetworkError, match="no interface 'eth7'"):
            await Neighbours("eth7", Changes()).start()

    run_in(segment[0], main)


# ------------------------------------------------------------------- watch


class Seen:
    """What a watch reported."""

    def __init__(self) -> None:
        self.links: list[Link | None] = []
        self.lost: list[Interface] = []
        self.watch = InterfaceWatch("eth0", self.links.append, self.lost.append)


def test_a_watch_tells_carrier_mac_deletion_and_return(segment: tuple[str, str]) -> None:
    here, there = segment

    async def main() -> None:
        seen = Seen()
        first = await seen.watch.start()
        assert first == netif.link("eth0")
        ip("-n", there, "link", "set", "eth0", "down")
        await until(lambda: seen.links and seen.links[-1] and not seen.links[-1].carrier)
        ip("-n", there, "link", "set", "eth0", "up")
        await until(lambda: seen.links[-1] and seen.links[-1].carrier)
        ip("-n", here, "link", "set", "eth0", "address", "02:00:00:00:00:cc")
        await until(lambda: seen.links[-1] and seen.links[-1].mac == bytes.fromhex("0200000000cc"))
        ip("-n", here, "link", "set", "eth0", "down")
        await until(lambda: seen.links[-1] and not seen.links[-1].up)
        ip("-n", here, "link", "delete", "eth0")
        await until(lambda: seen.links[-1] is None)
        ip("-n", here, "link", "add", "eth0", "type", "veth", "peer", "name", "other")
        await until(lambda: seen.links[-1] is not None)
        assert seen.links[-1] is not None
        assert seen.links[-1].index != first.index
        seen.watch.close()

    run_in(here, main)


def test_a_watch_tells_addresses_that_are_taken_away(segment: tuple[str, str]) -> None:
    async def main() -> None:
        seen = Seen()
        await seen.watch.start()
        netif.add_address("eth0", VIP)
        netif.add_address("lo", VIP)
        netif.remove_address("lo", VIP)
        ip("-n", segment[0], "address", "delete", f"{VIP}/32", "dev", "eth0")
        await until(lambda: seen.lost)
        assert seen.lost == [IPv4Interface(f"{VIP}/32")]
        seen.watch.close()

    run_in(segment[0], main)


def test_a_watch_makes_up_for_lost_events(segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(rtnl, "_EVENT_BUFFER_BYTES", 1)
        netif.add_address("eth0", VIP)
        seen = Seen()
        await seen.watch.start()
        for n in range(100):
            netif.add_address("lo", IPv4Address(f"10.88.0.{n}"))
        netif.remove_address("eth0", VIP)
        await until(lambda: seen.lost)
        assert seen.lost == [IPv4Interface(f"{VIP}/32")]
        seen.watch.close()

    run_in(segment[0], main)
