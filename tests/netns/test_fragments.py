"""Datagrams through a virtual to real servers: in fragments of any order, in jumbo frames, and where nobody serves."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab import observe
from lb.lab.observe import run_in, status, wait_until
from tests.netns.cluster import lbctl, raised
from tests.netns.conftest import ip

CONF = """
[cluster]
name = "pieces"
interface = "eth0"
[[node]]
name = "alone"
address = "10.8.2.1"
[[virtual]]
name = "dns"
address = "10.8.2.100"
port = 53
protocol = "udp"
[[virtual.real]]
name = "ra"
address = "10.8.2.11"
[[virtual.real]]
name = "rb"
address = "10.8.2.12"
[[virtual]]
name = "dns-ipv6"
address = "2001:db8:82::100"
port = 53
protocol = "udp"
[[virtual.real]]
name = "ra"
address = "2001:db8:82::11"
[[virtual.real]]
name = "rb"
address = "2001:db8:82::12"
"""
VIRTUAL, VIRTUAL6 = "10.8.2.100", "2001:db8:82::100"

ASK = """
import random, socket, sys
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether

def cut(mine, virtual, number, port):
    udp = UDP(sport=port, dport=53) / bytes(4000)
    if ":" not in virtual:
        return fragment(IP(src=mine, dst=virtual, id=number) / udp, fragsize=1480)
    return fragment6(IPv6(src=mine, dst=virtual) / IPv6ExtHdrFragment(id=number) / udp, 1500)

virtual, mac = sys.argv[1:]
family = socket.AF_INET6 if ":" in virtual else socket.AF_INET
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
ether = Ether(dst=mac, src=wire.getsockname()[4].hex(":"))
for number in range(12):
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((virtual, 53))
        asking.settimeout(5)
        mine, port, *_ = asking.getsockname()
        pieces = cut(mine, virtual, 1 + number, port)
        assert len(pieces) == 3
        order = ((0, 1, 2), (2, 1, 0), (1, 2, 0))[number % 3]
        for place in order:
            wire.send(bytes(ether / pieces[place]))
        print(asking.recv(100).decode().strip())
"""
"""A datagram's UDP checksum, computed over all of it, says to the real's kernel that it is whole."""

ASK_LARGE = """
import socket, sys
for _ in range(8):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.sendto(bytes(60000), (sys.argv[1], 53))
        print(asking.recv(100).decode().strip())
"""
"""The client's own kernel cuts these into 42 fragments each."""

ASK_JUMBO = """
import socket
for _ in range(8):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        asking.settimeout(5)
        asking.sendto(bytes(8900), ("10.8.2.100", 53))
        print(asking.recv(100).decode().strip())
"""
ASK_NOBODY = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as asking:
    asking.connect((sys.argv[1], 53))
    asking.settimeout(5)
    asking.send(b"?")
    try:
        asking.recv(100)
    except ConnectionRefusedError:
        print("refused")
"""
SWITCH = "lbctl-switch-pieces"


def _all_up() -> bool:
    return set(observe.health("alone").values()) == {"up"}


def _moved(before: dict[str, int]) -> dict[str, int]:
    after = status("alone")["packets"]
    return {name: after[name] - before[name] for name in after if after[name] != before.get(name, 0)}


@pytest.fixture(scope="module", autouse=True)
def conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a lab that is up."""
    with raised(tmp_path_factory.mktemp("pieces") / "cluster.toml", CONF, _all_up) as conf:
        yield conf


@pytest.mark.parametrize("virtual", [VIRTUAL, VIRTUAL6], ids=["IPv4", "IPv6"])
def test_every_datagram_is_answered_in_whatever_order_its_pieces_come(virtual: str) -> None:
    before = status("alone")["packets"]
    link = ip("-n", "lbctl-alone", "-o", "link", "show", "dev", "eth0").split()
    mac = link[link.index("link/ether") + 1]
    seen = Counter(run_in("client", sys.executable, "-c", ASK, virtual, mac).split())
    assert seen == {"ra": 6, "rb": 6}
    moved = _moved(before)
    assert moved["tx_packets"] == 36
    assert moved["set_aside"] == 16
    assert not {name for name in moved if name.startswith("drop")}


def test_what_the_clients_kernel_cuts_up_is_answered() -> None:
    before = status("alone")["packets"]
    seen = Counter(run_in("client", sys.executable, "-c", ASK_LARGE, VIRTUAL6).split())
    assert seen == {"ra": 4, "rb": 4}
    moved = _moved(before)
    assert moved["tx_packets"] == 8 * 42
    assert not {name for name in moved if name.startswith("drop")}


def test_who_asks_when_all_reals_are_drained_is_refused_at_once() -> None:
    for real in ("ra", "rb"):
        lbctl("drain", real, "--node", "alone")
    before = status("alone")["packets"]
    for virtual in (VIRTUAL, VIRTUAL6):
        assert run_in("client", sys.executable, "-c", ASK_NOBODY, virtual).strip() == "refused"
    assert _moved(before)["unreachable"] == 2
    for real in ("ra", "rb"):
        lbctl("enable", real, "--node", "alone")


def test_jumbo_frames_are_balanced_natively(conf: Path) -> None:
    """A director that finds an MTU of 9,000 bytes loads a program for it; here is every cable made so wide before."""
    lbctl("down", "--node", "alone")
    for host in ("client", "alone", "ra", "rb"):
        ip("-n", SWITCH, "link", "set", host, "mtu", "9000")
        ip("-n", f"lbctl-{host}", "link", "set", "eth0", "mtu", "9000")
    ip("-n", SWITCH, "link", "set", "switch", "mtu", "9000")
    lbctl("lab", "exec", "alone", "--", sys.executable, "-m", "lb", "up", str(conf), "--node", "alone", "-d")
    wait_until("every real is up", _all_up)
    assert "prog/xdp" in ip("-n", "lbctl-alone", "link", "show", "eth0")
    assert "xdpgeneric" not in ip("-n", "lbctl-alone", "link", "show", "eth0")
    before = status("alone")["packets"]
    seen = Counter(run_in("client", sys.executable, "-c", ASK_JUMBO).split())
    assert seen == {"ra": 4, "rb": 4}
    assert _moved(before)["tx_packets"] == 8
