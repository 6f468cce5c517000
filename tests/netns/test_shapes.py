"""A cluster of another shape than the demo's: UDP, every port, TLS and plain HTTP on the same reals, really used."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from lb.lab import observe
from lb.lab.observe import run_in
from tests.netns.cluster import lbctl, raised

CONF = """
[cluster]
name = "shapes"
interface = "eth0"
[[node]]
name = "alone"
address = "10.8.0.1"
interface = "lan7"
"""

VIRTUAL = """
[[virtual]]
name = "{name}"
address = "{address}"
port = {port}
{more}
[[virtual.real]]
name = "ra"
address = "10.8.0.11"
[[virtual.real]]
name = "rb"
address = "10.8.0.12"
"""

TLS_CHECK = """
type = "negotiate"
service = "https"
request = "/ok"
receive = "fine [0-9]+"
"""

SHAPES = (
    ("dns", "10.8.0.100", 53, 'protocol = "udp"\nscheduler = "sh"\n[virtual.check]\nport = 5353'),
    ("ports", "10.8.0.101", 0, 'scheduler = "mh"\n[virtual.check]\ntype = "negotiate"\nport = 80'),
    ("tls", "10.8.0.102", 443, f"[virtual.check]\n{TLS_CHECK}"),
    ("ops", "10.8.0.104", 53, 'protocol = "udp"\none_packet = true'),
    ("plain", "10.8.0.103", 80, 'fallback = "10.8.0.50"'),
)

ASK_UDP = """
import socket
for _ in range(5):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(3)
        asking.sendto(b"?", ("10.8.0.100", 53))
        print(asking.recv(100).decode().strip())
"""


ASK_FROM_ONE_PORT = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(3)
    for _ in range(6):
        asking.sendto(b"?", ("10.8.0.104", 53))
        print(asking.recv(100).decode().strip())
"""


def _all_up() -> bool:
    return {real["health"] for virtual in observe.status("alone")["virtuals"] for real in virtual["reals"]} == {"up"}


@pytest.fixture(scope="module", autouse=True)
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    virtuals = [VIRTUAL.format(name=n, address=a, port=p, more=more) for n, a, p, more in SHAPES]
    with raised(tmp_path_factory.mktemp("shapes") / "cluster.toml", "".join([CONF, *virtuals]), _all_up):
        yield


def test_udp_under_sh_sticks_to_one_real() -> None:
    seen = run_in("client", sys.executable, "-c", ASK_UDP).split()
    assert len(seen) == 5
    assert seen[0] in ("ra", "rb")
    assert len(set(seen)) == 1


def test_datagrams_for_themselves_take_turns() -> None:
    seen = run_in("client", sys.executable, "-c", ASK_FROM_ONE_PORT).split()
    assert sorted(seen) == ["ra"] * 3 + ["rb"] * 3
    assert "10.8.0.104:53 rr ops" in lbctl("list", "--node", "alone").stdout
    assert "10.8.0.104" not in lbctl("list", "--connections", "--node", "alone").stdout


def test_every_port_is_balanced() -> None:
    seen = observe.answers(4, "http://10.8.0.101/")
    assert len(seen) == 1
    assert set(seen) <= {"ra", "rb"}
    assert observe.run("lab", "exec", "client", "--", "curl", "-s", "-m3", "http://10.8.0.101:81/").returncode == 7
    listed = lbctl("list", "--connections", "--node", "alone").stdout
    assert "10.8.0.101:81" in listed  # the refusal was the real's own


def test_tls_passes_through() -> None:
    assert observe.answers(4, "-k https://10.8.0.102/") == {"ra": 2, "rb": 2}


def test_orders_concern_one_virtual_or_all() -> None:
    lbctl("drain", "plain/ra", "--node", "alone")
    assert observe.answers(2, "http://10.8.0.103/") == {"rb": 2}
    assert observe.answers(2, "-k https://10.8.0.102/") == {"ra": 1, "rb": 1}
    lbctl("drain", "rb", "--node", "alone")
    assert set(observe.answers(2, "http://10.8.0.103/")) == {"plain-fallback"}
    lbctl("enable", "10.8.0.11", "--node", "alone")
    lbctl("enable", "rb", "--node", "alone")
    assert observe.answers(2, "http://10.8.0.103/") == {"ra": 1, "rb": 1}
