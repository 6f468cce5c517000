"""Reals behind a router in tunnels of the other family, and of IPv6: nginx there, and what happens on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb.lab import observe
from lb.lab.observe import DOWNLOAD_DIGEST, run_in, spawn_in, status, wait_until
from lb.lab.webserver import DOWNLOAD_BYTES
from tests.netns.cluster import active, lbctl, other, raised

VIRTUAL, VIRTUAL6 = "10.9.0.100", "2001:db8:9::100"
URLS = {4: f"http://{VIRTUAL}/", 6: f"http://[{VIRTUAL6}]/"}
OLD, NEW = "10.10.0.11", "2001:db8:10::12"
REALS = f"""
[[virtual.real]]
address = "{OLD}"
name = "old"
[[virtual.real]]
address = "{NEW}"
name = "new"
"""
CONF = f"""
[cluster]
name = "pairs"
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
{REALS}
[[virtual]]
name = "web6"
address = "{VIRTUAL6}"
port = 80
forward = "ipip"
check = {{ type = "negotiate", request = "/up", receive = "fine", interval = "200ms" }}
{REALS}
"""
UPLOAD_BYTES = 2_000_000


@pytest.fixture(scope="module", autouse=True)
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with raised(tmp_path_factory.mktemp("pairs") / "cluster.toml", CONF):
        yield
    Path("/run/pairs-upload").unlink(missing_ok=True)


def connections(node: str) -> set[tuple[str, str, str]]:
    """Client, virtual and real of each that is established."""
    rows: list[Any] = json.loads(lbctl("list", "--node", node, "--connections", "--json").stdout)
    return {(row["client"], row["virtual"], row["real"]) for row in rows if row["state"] == "ESTABLISHED"}


def upload(version: int, size: int) -> str:
    """Two files in full segments, one to each real; then what the client knows of the way."""
    script = f"""
    head -c {UPLOAD_BYTES} /dev/zero | tr '\\0' x > /run/pairs-upload
    for n in 1 2; do curl -sf --max-time 20 -T /run/pairs-upload {URLS[version]}upload/{size}-$n || exit 1; done
    ip route get {VIRTUAL if version == 4 else VIRTUAL6}
    """
    return run_in("client", "sh", "-c", script)


@pytest.mark.parametrize("version", URLS)
def test_every_real_answers_clients_of_both_families(version: int) -> None:
    assert observe.answers(4, URLS[version]) == {"old": 2, "new": 2}
    listed = [line.split()[1:3] for line in lbctl("list", "--node", active()).stdout.splitlines() if "->" in line]
    assert listed[1:] == [[f"{OLD}:80", "Tunnel"], [f"[{NEW}]:80", "Tunnel"]] * 2


@pytest.mark.parametrize(("version", "fits"), [(4, 1460), (6, 1460)])
def test_what_is_too_big_is_found_out(version: int, fits: int) -> None:
    """The client's kernel remembers the narrowest of its ways; nobody clamps its segments."""
    assert f"mtu {fits}" in upload(version, fits)
    stored = [path.stat().st_size for path in Path("/run/lbctl/lab/pairs").glob(f"*/www/upload/{fits}-*")]
    assert stored == [UPLOAD_BYTES] * 2
    packets = status(active())["packets"]
    assert (packets["too_big"] > 0, packets["drop_too_big"], packets["drop_no_headroom"]) == (True, 0, 0)


def test_a_route_of_ipv6_that_changes_is_followed() -> None:
    node = active()
    run_in("router", "ip", "address", "add", "2001:db8:9::77/64", "dev", "eth0", "nodad")
    run_in(node, "ip", "-6", "route", "replace", "2001:db8:10::/64", "via", "2001:db8:9::77", "mtu", "1400")
    log = Path(f"/run/lbctl/lab/pairs/{node}/lbctl.log")
    wait_until("the new route is known", lambda: "gateway=2001:db8:9::77 mtu=1400" in log.read_text())
    for version in URLS:
        run_in("client", "ip", f"-{version}", "route", "flush", "cache")
        assert observe.answers(2, URLS[version]) == {"old": 1, "new": 1}
    assert "mtu 1360" in upload(4, 1360)


def test_downloads_from_each_real_survive_the_director() -> None:
    """The other one knows which real has which, also where that is of another family."""
    dead = active()
    script = f"curl -s --limit-rate {DOWNLOAD_BYTES // 6} %sdownload | sha256sum"
    downloads = [spawn_in("client", "sh", "-c", script % URLS[version]) for version in (4, 4, 6, 6)]
    pairs = {(f"{virtual}:80", f"{real}:80") for virtual in (VIRTUAL, f"[{VIRTUAL6}]") for real in (OLD, f"[{NEW}]")}

    def told() -> bool:
        known = connections(other(dead))
        return pairs == {row[1:] for row in known}

    wait_until("the other one knows them", told)
    lbctl("lab", "kill", dead)
    assert [download.communicate(timeout=60)[0].split()[0] for download in downloads] == [DOWNLOAD_DIGEST] * 4
    assert observe.role(other(dead)) == "active"


def test_doctor_and_realserver_know_the_ends() -> None:
    conf = status(active())["file"]
    said = run_in("new", "lbctl", "realserver", "status", conf)
    assert "ip6tnl0" in said
    assert "tunl0" not in said.replace("ip6tnl0", "")
    said = run_in("old", "lbctl", "realserver", "status", conf)
    assert all(name in said for name in ("tunl0", "sit0"))
