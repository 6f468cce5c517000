"""Floods while real clients are there: who has a connection keeps it, who wants one gets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab import observe
from lb.lab.observe import run_in, status
from tests.netns import flooding, streaming
from tests.netns.cluster import raised

VIRTUAL = "10.12.1.100"
TABLE = 16_384
FLOOD, RATE = 5 * TABLE, 20_000
"""Packets, and how many a second: a half-open connection has most of a second for its second packet."""
CONNECTIONS = 100

CONF = f"""
[cluster]
name = "flooded"
interface = "eth0"
[[node]]
name = "lb1"
address = "10.12.1.2"
[connections]
max = {TABLE}
"""
SERVICE = """
[[virtual]]
name = "{name}"
address = "10.12.1.100"
port = {port}
protocol = "{protocol}"
scheduler = "wlc"
check = {{ type = "connect", port = 80, interval = "2s", timeout = "20s" }}
[[virtual.real]]
address = "10.12.1.11"
[[virtual.real]]
address = "10.12.1.12"
"""
SERVICES = (("web", 80, "tcp"), ("dns", 53, "udp"), ("flooded", 81, "tcp"), ("drowned", 54, "udp"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[None]:
    text = CONF + "".join(SERVICE.format(name=n, port=p, protocol=q) for n, p, q in SERVICES)
    with raised(tmp_path / "cluster.toml", text, lambda: set(observe.health("lb1").values()) == {"up"}):
        yield


def counted(word: str, *names: str) -> int:
    """Over the reals of these virtuals."""
    found = [virtual["reals"] for virtual in status("lb1")["virtuals"] if virtual["name"] in names]
    return sum(int(real[word]) for reals in found for real in reals)


@pytest.mark.usefixtures("lab")
def test_clients_do_not_notice() -> None:
    mac = json.loads(run_in("lb1", "ip", "-j", "link", "show", "eth0"))[0]["address"]
    words = *observe.LBCTL, "lab", "exec", "client", "--", sys.executable, streaming.__file__
    with subprocess.Popen(
        [*words, VIRTUAL, "80", "53", str(CONNECTIONS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as clients:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "begun\n"
        before = status("lb1")["packets"]
        flood = map(str, ("eth0", mac, VIRTUAL, 81, 54, FLOOD, RATE))
        run_in("client", sys.executable, flooding.__file__, *flood)
        output, _ = clients.communicate(timeout=120)
    told, after = json.loads(output), status("lb1")["packets"]
    assert told["wrong"] == []
    assert told["connections"] > CONNECTIONS // 2
    moved = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert {name: count for name, count in moved.items() if name.startswith("drop_")} == {}
    assert moved["tx_packets"] >= FLOOD + told["questions"]
    assert counted("connections", "flooded", "drowned") == FLOOD
    assert counted("inactive", "flooded") + counted("active", "drowned") <= TABLE
