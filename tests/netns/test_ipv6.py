"""A mixed cluster: an IPv4 and an IPv6 virtual address of the same hosts, balanced, checked, synced and failed over."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
import uvloop

from ha import ndisc
from ha.rivals import Rivals
from ha.takeover import Announcer, announcement_frames
from lb import namespaces, netif
from lb.addresses import Address
from lb.lab import observe
from lb.lab.observe import Traffic, role, run_in, status, wait_until
from tests.netns.cluster import lbctl, raised
from tests.netns.conftest import ip
from tests.netns.test_netif import until

CONF = Path(__file__).parents[2] / "conf" / "mixed.toml"
VIRTUAL, VIRTUAL6 = "192.168.1.105", "2001:db8:1::105"
URL, URL6 = f"http://{VIRTUAL}/", f"http://[{VIRTUAL6}]/"
DEADTIME_MS = 500.0


@pytest.fixture(scope="module")
def mixed_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example's cluster with keys of its own, whole."""
    directory = tmp_path_factory.mktemp("mixed")
    lbctl("authkeys", str(directory / "authkeys"))
    with raised(directory / "mixed.toml", CONF.read_text()) as path:
        yield path


def answers(url: str, count: int = 8) -> Counter[str]:
    return observe.answers(count, url)


def listed(node: str, *options: str) -> Any:
    """`lbctl list --json` of a node."""
    return json.loads(lbctl("list", "--node", node, "--json", *options).stdout)


def mac_of(host: str) -> str:
    """Of its interface."""
    return run_in(host, "ip", "-br", "link", "show", "dev", "eth0").split()[2]


def connections6(node: str) -> set[tuple[str, str, str]]:
    """Client, virtual and real of each IPv6 connection."""
    rows = listed(node, "--connections")
    return {(row["client"], row["virtual"], row["real"]) for row in rows if row["virtual"] == f"[{VIRTUAL6}]:80"}


def test_both_families_are_balanced_over_the_same_hosts(mixed_lab: Path) -> None:  # noqa: ARG001
    even = {"web1": 4, "web2": 4}
    assert answers(URL) == answers(URL6) == even


def test_an_echo_is_answered_and_the_address_known_by_one_mac(mixed_lab: Path) -> None:  # noqa: ARG001
    assert " 0% packet loss" in run_in("client", "ping", "-6", "-c", "2", "-i", "0.2", "-W", "5", VIRTUAL6)
    assert mac_of("lb1") in run_in("client", "ip", "-6", "neigh", "show", VIRTUAL6)


def test_list_and_status_name_ipv6_in_brackets(mixed_lab: Path) -> None:  # noqa: ARG001
    answers(URL6, 2)
    text = lbctl("list", "--node", "lb1").stdout
    assert f"TCP  [{VIRTUAL6}]:80 rr\n  -> [2001:db8:1::101]:80 " in text
    assert f"TCP  {VIRTUAL}:80 rr\n  -> 192.168.1.101:80 " in text
    assert f"tcp [{VIRTUAL6}]:80" in lbctl("status", "--node", "lb1").stdout
    virtual = status("lb1")["virtuals"][1]
    assert [real["address"] for real in virtual["reals"]] == ["2001:db8:1::101", "2001:db8:1::102"]
    assert {real["health"] for real in virtual["reals"]} == {"up"}


def test_the_standby_knows_the_connections_of_both(mixed_lab: Path) -> None:  # noqa: ARG001
    answers(URL6, 4)
    wait_until("lb2 knows them", lambda: connections6("lb1") and connections6("lb1") == connections6("lb2"))


def test_a_real_that_answers_no_more_over_ipv6_serves_ipv4(mixed_lab: Path) -> None:  # noqa: ARG001
    """Each address is checked by itself."""
    run_in("web1", "ip", "-6", "address", "del", "2001:db8:1::101/64", "dev", "eth0")
    try:
        wait_until("it is down", lambda: health("2001:db8:1::101") == "down")
        assert health("192.168.1.101") == "up"
        assert answers(URL6, 4) == {"web2": 4}
        assert set(answers(URL, 4)) == {"web1", "web2"}
    finally:
        run_in("web1", "ip", "-6", "address", "add", "2001:db8:1::101/64", "dev", "eth0", "nodad")
    wait_until("it is up", lambda: health("2001:db8:1::101") == "up")


def health(address: str) -> str:
    """Of a real, as lb1 sees it."""
    found = {real["address"]: real["health"] for virtual in status("lb1")["virtuals"] for real in virtual["reals"]}
    return str(found[address])


def test_a_real_holds_the_address_and_answers_nobody_who_asks_for_it(mixed_lab: Path) -> None:
    assert f"{VIRTUAL6}/128" in run_in("web1", "ip", "-6", "address", "show", "dev", "lo")
    assert "lo" in lbctl("lab", "exec", "web1", "--", "lbctl", "realserver", "status", str(mixed_lab)).stdout
    holder = asyncio.run(asked_in("client"))
    assert holder is not None
    assert holder[1].hex(":") == mac_of("lb1")


async def asked_in(host: str) -> tuple[Address, bytes] | None:
    """Who answers for the IPv6 address, to somebody who asks as duplicate address detection does."""
    with namespaces.inside(f"lbctl-{host}", host):
        mac = netif.link("eth0").mac
        rivals = Rivals("eth0", mac, lambda: None, lambda _address, _mac: None)
    try:
        return await rivals.holder([IPv6Address(VIRTUAL6)])
    finally:
        rivals.close()


def test_a_download_over_ipv6_survives_a_power_cut(mixed_lab: Path) -> None:
    with Traffic(VIRTUAL6, seconds=10) as traffic:
        lbctl("lab", "kill", "lb1")
        wait_until("lb2 is active", lambda: role("lb2") == "active")
    print(traffic.seen)
    assert traffic.seen.download_ok
    assert traffic.seen.outage_ms <= DEADTIME_MS + 500
    assert f"{VIRTUAL6}/128" in run_in("lb2", "ip", "-6", "address", "show", "dev", "eth0")
    lbctl("lab", "up", str(mixed_lab))
    wait_until("the pair is whole", lambda: observe.is_settled("lb1", "lb2"))
    with Traffic(VIRTUAL6, seconds=10) as traffic:
        lbctl("takeover", "--node", "lb1")
        wait_until("lb1 is active", lambda: role("lb1") == "active")
    assert traffic.seen.download_ok
    assert VIRTUAL6 not in run_in("lb2", "ip", "-6", "address", "show", "dev", "eth0")


VIP = IPv6Address("2001:db8:77::100")
MAC = bytes.fromhex("02000000dead")


def test_an_advertisement_moves_a_neighbour_and_is_heard_as_a_claim(segment: tuple[str, str]) -> None:
    """The kernel of a neighbour believes the frame: its checksum and form are right."""
    here, there = segment
    ip("-n", there, "neigh", "add", str(VIP), "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "stale")
    claims: list[bytes] = []

    async def main() -> None:
        with namespaces.inside(there, "there"):
            defending = Rivals("eth0", netif.link("eth0").mac, lambda: claims.append(MAC), lambda *_: None)
        defending.defend([VIP], [VIP])
        announcer = Announcer("eth0", MAC)
        announcer.announce([VIP])
        await until(lambda: claims and MAC.hex(":") in ip("-n", there, "neigh", "show", str(VIP)))
        announcer.close()
        defending.close()

    with namespaces.inside(here, "here"):
        uvloop.run(asyncio.wait_for(main(), 30))


def test_what_a_claim_is() -> None:
    (frame,) = announcement_frames(MAC, VIP)
    assert ndisc.claim_in(frame) == (VIP, MAC)
    assert ndisc.claim_in(ndisc.probe(MAC, VIP)) == (IPv6Address(0), MAC)
    assert ndisc.claim_in(frame[:77]) is None
    for at in (12, 20, 21, 54, 55):
        assert ndisc.claim_in(frame[:at] + bytes((frame[at] ^ 0x40,)) + frame[at + 1 :]) is None


def test_neighbours_and_addresses_of_ipv6(segment: tuple[str, str]) -> None:
    here, there = segment
    peer = IPv6Address("2001:db8:77::2")
    with namespaces.inside(there, "there"):
        netif.add_address("eth0", peer, 64)
        mac = netif.link("eth0").mac
    seen: dict[Address, bytes] = {}

    async def main() -> None:
        netif.add_address("eth0", IPv6Address("2001:db8:77::1"), 64)
        netif.add_address("eth0", VIP)
        assert VIP in netif.own_addresses()
        neighbours = netif.Neighbours("eth0", seen.__setitem__)
        await neighbours.start()
        neighbours.want([peer])
        await until(lambda: peer in seen)
        neighbours.close()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as spoken:
            spoken.connect((str(peer), 9))
            assert spoken.getsockname()[0] == "2001:db8:77::1", "a virtual address is nobody's source"
        netif.remove_address("eth0", VIP)
        netif.remove_address("eth0", VIP)
        assert VIP not in netif.own_addresses()

    with namespaces.inside(here, "here"):
        uvloop.run(asyncio.wait_for(main(), 30))
    assert seen == {peer: mac}
