"""A cluster whose every frame is tagged, twice: checks and the client's connections go through a VLAN, natively."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lb.lab import observe
from lb.lab.observe import status, wait_until
from tests.netns import tagging
from tests.netns.cluster import lbctl
from tests.netns.conftest import ip

CONF = """
[cluster]
name = "vlan"
interface = "eth0"
[[node]]
name = "alone"
address = "10.8.1.1"
[[virtual]]
name = "web"
address = "10.8.1.100"
port = 80
[virtual.check]
type = "negotiate"
service = "http"
request = "/ok"
receive = "fine"
interval = "200ms"
timeout = "1s"
[[virtual.real]]
name = "ra"
address = "10.8.1.11"
[[virtual.real]]
name = "rb"
address = "10.8.1.12"
"""
HOSTS = ("client", "alone", "ra", "rb")
SWITCH = "lbctl-switch-vlan"
TAGS = (0x88A8, 0x8100)
TWO_TAGS_LESS = "1492"
"""What is left of 1500 bytes: a cable of the lab is as narrow as one without tags."""


def _all(health: str) -> bool:
    return set(observe.health("alone").values()) == {health}


@pytest.fixture(scope="module", autouse=True)
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    conf = tmp_path_factory.mktemp("vlan") / "cluster.toml"
    conf.write_text(CONF)
    lbctl("lab", "up", str(conf))
    try:
        for port in tagging.ports(SWITCH):
            tagging.visible_tags(SWITCH, port)
        for host in HOSTS:
            tagging.visible_tags(f"lbctl-{host}", "eth0")
            ip("-n", f"lbctl-{host}", "link", "set", "eth0", "mtu", TWO_TAGS_LESS)
        wait_until("every real is up", lambda: _all("up"))
        yield
    finally:
        lbctl("lab", "down", str(conf))


def test_everything_in_a_vlan() -> None:
    """Who is not in it sees nothing of those who are."""
    tagging.tag("lbctl-alone", "eth0", TAGS)
    wait_until("checks fail", lambda: _all("down"))
    for host in HOSTS:
        if host != "alone":
            tagging.tag(f"lbctl-{host}", "eth0", TAGS)
    wait_until("every real is up", lambda: _all("up"))
    before = status("alone")["packets"]
    assert observe.answers(10, "http://10.8.1.100/") == {"ra": 5, "rb": 5}
    after = status("alone")["packets"]
    assert after["tx_packets"] - before["tx_packets"] >= 10 * 5, "SYN, ACK, request, FIN, ACK"
    assert "xdpgeneric" not in ip("-n", "lbctl-alone", "link", "show", "eth0")
