"""Reals behind a router, reached in tunnels: nginx there, MTU 1500 everywhere, and what happens on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab import observe
from lb.lab.observe import DOWNLOAD_DIGEST, run_in, spawn_in, status, wait_until
from lb.lab.webserver import DOWNLOAD_BYTES
from tests.netns.cluster import active, lbctl, other, raised

VIRTUAL = "10.9.0.100"
URL = f"http://{VIRTUAL}/"
CONF = f"""
[cluster]
name = "far"
interface = "eth0"
[[node]]
name = "lb1"
address = "10.9.0.2"
[[node]]
name = "lb2"
address = "10.9.0.3"
[ha]
ping = ["10.9.0.1"]
[[virtual]]
name = "web"
address = "{VIRTUAL}"
port = 80
forward = "ipip"
check = {{ type = "negotiate", request = "/up", receive = "fine", interval = "200ms" }}
[[virtual.real]]
address = "10.10.0.11"
name = "far1"
[[virtual.real]]
address = "10.11.0.12"
name = "far2"
[[virtual.real]]
address = "10.9.0.13"
name = "near"
forward = "gate"
[[virtual]]
name = "dns"
address = "{VIRTUAL}"
port = 53
protocol = "udp"
forward = "ipip"
real = [{{ address = "10.10.0.11" }}]
"""
UPLOAD_BYTES = 2_000_000
UPLOAD = f"""
head -c {UPLOAD_BYTES} /dev/zero | tr '\\0' x > /run/far-upload
for n in 1 2 3; do curl -sf --max-time 20 -T /run/far-upload {URL}upload/$n || exit 1; done
ip route get {VIRTUAL}
"""
ESTABLISHED = "ss", "-Htn", "state", "established", "dst", VIRTUAL
ASK_UDP = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(5)
    asking.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
    asking.connect(("{VIRTUAL}", 53))
    asking.send(bytes(1452))
    print(asking.recv(100).decode().strip())
"""


@pytest.fixture(scope="module", autouse=True)
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with raised(tmp_path_factory.mktemp("far") / "cluster.toml", CONF):
        yield
    Path("/run/far-upload").unlink(missing_ok=True)


def test_every_real_answers_its_clients() -> None:
    assert observe.answers(6, URL) == {"far1": 2, "far2": 2, "near": 2}
    assert run_in("client", sys.executable, "-c", ASK_UDP) == "far1\n"
    listed = lbctl("list", "--node", active()).stdout
    assert "10.10.0.11:80                Tunnel" in listed
    assert "10.9.0.13:80                 Route" in listed
    forwards = {real["name"]: real["forward"] for real in status(active())["virtuals"][0]["reals"]}
    assert forwards == {"far1": "ipip", "far2": "ipip", "near": "gate"}


def test_what_is_too_big_for_a_tunnel_is_found_out() -> None:
    """Uploads in full segments: the client hears of 1480 bytes from the virtual address, and nothing else is needed."""
    assert "mtu 1480" in run_in("client", "sh", "-c", UPLOAD)
    stored = [path.stat().st_size for path in Path("/run/lbctl/lab/far").glob("*/www/upload/*")]
    assert stored == [UPLOAD_BYTES] * 3
    packets = status(active())["packets"]
    assert (packets["too_big"] > 0, packets["drop_too_big"], packets["drop_no_headroom"]) == (True, 0, 0)


def test_a_route_that_changes_is_followed() -> None:
    node = active()
    run_in("router", "ip", "address", "add", "10.9.0.77/24", "dev", "eth0")
    for network in ("10.10.0.0/24", "10.11.0.0/24"):
        run_in(node, "ip", "route", "replace", network, "via", "10.9.0.77", "mtu", "1400")
    log = Path(f"/run/lbctl/lab/far/{node}/lbctl.log")
    wait_until("the new routes are known", lambda: log.read_text().count("gateway=10.9.0.77 mtu=1400") == 2)
    run_in("client", "ip", "route", "flush", "cache")
    assert observe.answers(3, URL) == {"far1": 1, "far2": 1, "near": 1}
    assert "mtu 1380" in run_in("client", "sh", "-c", UPLOAD)


def test_a_download_from_each_real_survives_the_director() -> None:
    dead = active()
    started = {real["name"]: real["connections"] for real in status(dead)["virtuals"][0]["reals"]}
    script = f"curl -s --limit-rate {DOWNLOAD_BYTES // 3} {URL}download | sha256sum"
    downloads = [spawn_in("client", "sh", "-c", script) for _ in range(3)]
    wait_until("they are under way", lambda: len(run_in("client", *ESTABLISHED).splitlines()) == 3)
    more = {real["name"]: real["connections"] for real in status(dead)["virtuals"][0]["reals"]}
    assert {name: more[name] - started[name] for name in more} == {"far1": 1, "far2": 1, "near": 1}
    lbctl("lab", "kill", dead)
    assert [download.communicate(timeout=60)[0].split()[0] for download in downloads] == [DOWNLOAD_DIGEST] * 3
    assert observe.role(other(dead)) == "active"
    lbctl("lab", "start", dead)
    wait_until("the pair is whole again", lambda: observe.is_settled("lb1", "lb2"))


def test_a_real_behind_the_router_that_stops_is_out() -> None:
    lbctl("lab", "nginx", "far1", "stop")
    wait_until("far1 is down", lambda: observe.health(active())["10.10.0.11"] == "down")
    assert observe.answers(4, URL) == {"far2": 2, "near": 2}
    lbctl("lab", "nginx", "far1", "start")
    wait_until("far1 is up", lambda: observe.health(active())["10.10.0.11"] == "up")
