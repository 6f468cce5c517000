"""ICMP at the virtual address, in real kernels: path MTU discovery works, and the active director answers pings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from lb.lab.observe import DOWNLOAD_DIGEST, run_in, status
from lb.netif import names
from tests.netns.cluster import VIRTUAL, active, other
from tests.netns.conftest import ip

pytestmark = pytest.mark.usefixtures("demo_lab")

FAR = "lbctl-test-far"
ROUTER = "192.168.1.1"
FAR_NETWORK, FAR_ADDRESS = "10.99.0.0/24", "10.99.0.2"
NARROW_MTU = 1300
REALS = ("web1", "web2")


def counted(node: str) -> dict[str, int]:
    """A director's packets, by what became of them."""
    packets: dict[str, int] = status(node)["packets"]
    return packets


def pings(*words: str) -> bool:
    """Does the client get an answer from the virtual address?"""
    command = ["ip", "netns", "exec", "lbctl-client", "ping", "-c1", "-W2", *words, VIRTUAL]
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0


@pytest.fixture
def far() -> Iterator[str]:
    """A host behind the client, which routes for it; the way there is narrower than both its ends know."""
    try:
        ip("netns", "add", FAR)
        ip("-n", FAR, "link", "set", "lo", "up")
        ip("-n", "lbctl-client", "link", "add", "narrow", "type", "veth", "peer", "name", "eth0", "netns", FAR)
        ip("-n", "lbctl-client", "address", "add", "10.99.0.1/24", "dev", "narrow")
        ip("-n", "lbctl-client", "link", "set", "narrow", "mtu", str(NARROW_MTU), "up")
        ip("-n", FAR, "address", "add", f"{FAR_ADDRESS}/24", "dev", "eth0")
        ip("-n", FAR, "link", "set", "eth0", "up")
        ip("-n", FAR, "route", "add", "default", "via", "10.99.0.1")
        run_in("client", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for real in REALS:
            ip("-n", f"lbctl-{real}", "route", "add", FAR_NETWORK, "via", ROUTER)
        yield FAR
    finally:
        run_in("client", "sysctl", "-qw", "net.ipv4.ip_forward=0")
        for real in REALS:
            ip("-n", f"lbctl-{real}", "route", "flush", FAR_NETWORK)
        names.remove(FAR)


def test_path_mtu_discovery_finds_the_real(far: str) -> None:
    """Segments of 1500 bytes do not fit; the router says so to the virtual address, and the real must hear of it."""
    command = f"curl -s --max-time 20 http://{VIRTUAL}/download | sha256sum"
    for _ in REALS:
        assert ip("netns", "exec", far, "sh", "-c", command).split()[0] == DOWNLOAD_DIGEST
    for real in REALS:
        assert f"mtu {NARROW_MTU}" in ip("-n", f"lbctl-{real}", "route", "get", FAR_ADDRESS, "from", VIRTUAL)


def test_the_active_director_answers_an_echo_and_nobody_else() -> None:
    node = active()
    before = {name: counted(name) for name in (node, other(node))}
    assert pings()
    assert pings("-M", "do", "-s", "1472"), "as large as the link takes"
    assert pings("-s", "8000"), "in fragments"
    after = {name: counted(name) for name in before}
    assert after[node]["passed"] - before[node]["passed"] >= 1 + 1 + 6
    assert after[node]["drop_fragment"] == before[node]["drop_fragment"]
    assert after[other(node)]["passed"] == before[other(node)]["passed"]
