"""Virtual addresses at a MAC of their own: clients keep the neighbour entries that they have over a failover."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab import observe
from lb.lab.observe import Traffic, role, run_in, wait_until
from lb.netif.place import device_of
from tests.netns.cluster import lbctl, raised

CONF = Path(__file__).parents[2] / "conf" / "mixed.toml"
VIRTUAL, VIRTUAL6 = "192.168.1.105", "2001:db8:1::105"
MAC = "00:00:5e:00:01:69"
DEVICE = device_of("eth0")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The mixed cluster, whole, with a virtual MAC."""
    directory = tmp_path_factory.mktemp("vmac")
    lbctl("authkeys", str(directory / "authkeys"))
    text = CONF.read_text().replace("[ha]", f'[ha]\nvirtual_mac = "{MAC}"')
    with raised(directory / "mixed.toml", text) as path:
        yield path


def neighbour(address: str) -> str:
    """Where the client thinks that an address is."""
    (entry,) = json.loads(run_in("client", "ip", "-j", "neighbour", "show", "to", address))
    return str(entry.get("lladdr"))


def device(node: str) -> tuple[str, set[str]]:
    """MAC of a director's device, and the addresses on it."""
    (found,) = json.loads(run_in(node, "ip", "-j", "address", "show", "dev", DEVICE))
    return found["address"], {entry["local"] for entry in found["addr_info"]}


def wait_until_active(node: str) -> None:
    wait_until(f"{node} is active", lambda: role(node) == "active")


def test_hosts_know_the_virtual_mac_and_are_served(lab: Path) -> None:  # noqa: ARG001
    assert observe.answers(8, f"http://{VIRTUAL}/").total() == 8
    assert observe.answers(8, f"http://[{VIRTUAL6}]/").keys() == {"web1", "web2"}
    assert (neighbour(VIRTUAL), neighbour(VIRTUAL6)) == (MAC, MAC)
    run_in("client", "ping", "-c", "1", "-W", "2", VIRTUAL)
    run_in("client", "ping", "-6", "-c", "1", "-W", "2", VIRTUAL6)
    assert device("lb1") == (MAC, {VIRTUAL, VIRTUAL6})
    assert device("lb2") == (MAC, set())


def test_a_host_that_hears_no_announcement_is_served_by_the_next_director(lab: Path) -> None:
    """Its entries are permanent, so that nothing it hears can change them."""
    for address in (VIRTUAL, VIRTUAL6):
        run_in("client", "ip", "neighbour", "replace", address, "lladdr", MAC, "nud", "permanent", "dev", "eth0")
    for heir, fault in (("lb2", ("standby", "--node", "lb1")), ("lb1", ("lab", "kill", "lb2"))):
        with Traffic(VIRTUAL, seconds=20) as traffic:
            lbctl(*fault)
            wait_until_active(heir)
        assert traffic.seen.download_ok
        assert observe.answers(4, f"http://[{VIRTUAL6}]/").keys() == {"web1", "web2"}
    lbctl("lab", "up", str(lab))
    for address in (VIRTUAL, VIRTUAL6):
        run_in("client", "ip", "neighbour", "del", address, "dev", "eth0")


def test_nothing_is_left_behind(lab: Path) -> None:
    wait_until("the pair is whole", lambda: observe.is_settled("lb1", "lb2"))
    setting = "net.ipv4.conf.eth0.arp_ignore"
    assert run_in("lb2", "sysctl", "-n", setting).strip() == "1"
    lbctl("down", "--node", "lb2")
    assert DEVICE not in run_in("lb2", "ip", "-br", "link")
    assert run_in("lb2", "sysctl", "-n", setting).strip() == "0"
    lbctl("lab", "up", str(lab))
