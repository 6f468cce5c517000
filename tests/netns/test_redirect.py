"""Directors with two interfaces: clients on one, reals on the other, and nothing routed by the directors themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab import observe
from lb.lab.observe import Traffic, run_in, status
from tests.netns.cluster import active, lbctl, other, raised

VIRTUAL = "10.7.0.100"
URL = f"http://{VIRTUAL}/"
CONF = f"""
[cluster]
name = "two"
interface = "eth0"
real_interfaces = ["eth1"]
[[node]]
name = "lb1"
address = "10.7.0.2"
[[node]]
name = "lb2"
address = "10.7.0.3"
real_interfaces = ["inner"]
[ha]
ping = ["10.7.0.1"]
[[virtual]]
name = "web"
address = "{VIRTUAL}"
port = 80
check = {{ type = "negotiate", request = "/up", receive = "fine", interval = "200ms" }}
[[virtual.real]]
address = "10.8.0.11"
name = "in1"
[[virtual.real]]
address = "10.8.0.12"
name = "in2"
forward = "ipip"
[[virtual.real]]
address = "10.7.0.13"
name = "out3"
"""
UPLOAD = f"""
head -c 1000000 /dev/zero > /run/two-upload
for n in 1 2 3; do curl -sf --max-time 20 -T /run/two-upload {URL}upload/$n || exit 1; done
"""


@pytest.fixture(scope="module", autouse=True)
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with raised(tmp_path_factory.mktemp("two") / "cluster.toml", CONF):
        yield
    Path("/run/two-upload").unlink(missing_ok=True)


def test_packets_leave_by_the_interface_of_their_real() -> None:
    node = active()
    before = status(node)["packets"]
    assert observe.answers(6, URL) == {"in1": 2, "in2": 2, "out3": 2}
    after = status(node)
    moved = {name: after["packets"][name] - before[name] for name in ("tx_packets", "redirected")}
    assert moved["redirected"] > moved["tx_packets"] > 0
    assert after["interfaces"] == {"eth0": "native", {"lb1": "eth1", "lb2": "inner"}[node]: "native"}


def test_uploads_in_full_segments() -> None:
    run_in("client", "sh", "-c", UPLOAD)
    stored = [path.stat().st_size for path in Path("/run/lbctl/lab/two").glob("*/www/upload/*")]
    assert stored == [1_000_000] * 3


def test_a_download_survives_the_director() -> None:
    dead = active()
    with Traffic(VIRTUAL, 3.0) as traffic:
        lbctl("lab", "kill", dead)
    assert traffic.seen.download_ok
    assert observe.role(other(dead)) == "active"
    assert observe.answers(3, URL) == {"in1": 1, "in2": 1, "out3": 1}
