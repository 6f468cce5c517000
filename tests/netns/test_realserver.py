"""Preparing a real and undoing it, in a namespace that has a real's address."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from lb import config, namespaces, realserver
from lb.errors import NetworkError, UsageError
from lb.lab import tunnel_end
from lb.model import Cluster
from lb.netif import add_address, link, link_names, own_addresses, set_up, sysctl, tunnel
from lb.realserver import Item
from tests.netns.conftest import ip

CONF = """
[cluster]
name = "t"
interface = "eth0"
[[node]]
name = "lb1"
address = "10.77.0.9"
[[virtual]]
name = "web"
address = "10.77.0.100"
port = 80
real = [{ address = "10.77.0.1" }, { address = "10.77.0.3" }]
[[virtual]]
name = "mail"
address = "10.77.0.101"
port = 25
real = [{ address = "10.77.0.3" }]
fallback = "10.77.0.1"
[[virtual]]
name = "other"
address = "10.77.0.102"
port = 26
real = [{ address = "10.77.0.3" }]
"""
VIPS = {IPv4Address("10.77.0.100"), IPv4Address("10.77.0.101")}
SETTINGS = tuple(
    f"net/ipv4/conf/{scope}/{name}" for scope in ("all", "eth0") for name in ("arp_ignore", "arp_announce", "rp_filter")
)


@pytest.fixture
def cluster() -> Cluster:
    return config.parse(CONF, "/etc/lbctl/cluster.toml")


@pytest.fixture
def real(segment: tuple[str, str]) -> Iterator[str]:
    """Inside a host with a real's address and settings of its own."""
    with namespaces.inside(segment[0], "real"):
        sysctl.write("net/ipv4/conf/all/arp_ignore", "0")
        sysctl.write("net/ipv4/conf/eth0/arp_announce", "1")
        sysctl.write("net/ipv4/conf/all/rp_filter", "0")
        sysctl.write("net/ipv4/conf/eth0/rp_filter", "1")
        yield segment[0]
        realserver.down()


def settings() -> dict[str, str]:
    return {name: sysctl.read(name) for name in SETTINGS}


def test_up_prepares_all_it_serves_and_down_restores(real: str, cluster: Cluster) -> None:
    before, addresses = settings(), own_addresses()
    assert not all(item.ok for item in realserver.status(cluster))

    realserver.up(cluster)
    assert own_addresses() - addresses == VIPS, "as a real of web and the fallback of mail"
    assert settings() == {
        "net/ipv4/conf/all/arp_ignore": "1",
        "net/ipv4/conf/all/arp_announce": "2",
        "net/ipv4/conf/all/rp_filter": "0",
        "net/ipv4/conf/eth0/arp_ignore": "1",
        "net/ipv4/conf/eth0/arp_announce": "2",
        "net/ipv4/conf/eth0/rp_filter": "0",
    }
    assert all(item.ok for item in realserver.status(cluster))

    realserver.down()
    assert (settings(), own_addresses()) == (before, addresses)
    assert not realserver.record_path(real).exists()


def test_the_second_time_there_is_nothing_to_do(real: str, cluster: Cluster) -> None:
    before = settings()
    assert realserver.up(cluster) != []
    assert realserver.up(cluster) == []
    assert realserver.down() != []
    assert realserver.down() == []
    assert settings() == before
    assert real == namespaces.current()


def test_loose_reverse_path_is_left_alone(real: str, cluster: Cluster) -> None:
    sysctl.write("net/ipv4/conf/all/rp_filter", "2")
    realserver.up(cluster)
    assert (sysctl.read("net/ipv4/conf/all/rp_filter"), sysctl.read("net/ipv4/conf/eth0/rp_filter")) == ("2", "1")
    assert all(item.ok for item in realserver.status(cluster)), real


class CrashError(Exception):
    """Where `up` ended."""


def up_until(changes: int, cluster: Cluster) -> None:
    """`up` that ends before the change after so many, as a crash would."""
    real_write, left = sysctl.write, iter(range(changes))

    def die_in_time() -> None:
        if next(left, None) is None:
            raise CrashError

    def write(name: str, value: str) -> None:
        die_in_time()
        real_write(name, value)

    def add(name: str, address: IPv4Address) -> None:
        die_in_time()
        add_address(name, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sysctl, "write", write)
        patch.setattr(realserver, "add_address", add)
        realserver.up(cluster)


@pytest.mark.parametrize("changes", range(7))
@pytest.mark.parametrize("again", [False, True], ids=["down", "up-down"])
def test_after_a_crash_anywhere_in_up_down_restores(real: str, cluster: Cluster, changes: int, again: bool) -> None:
    before, addresses = settings(), own_addresses()
    with pytest.raises(CrashError):
        up_until(changes, cluster)
    if again:
        realserver.up(cluster)
        assert all(item.ok for item in realserver.status(cluster))
    realserver.down()
    assert (settings(), own_addresses()) == (before, addresses), real


def test_seven_changes_are_all(real: str, cluster: Cluster) -> None:
    """So that the test above stops at each of them."""
    up_until(7, cluster)
    assert all(item.ok for item in realserver.status(cluster)), real


def test_addresses_never_stand_without_the_settings(
    real: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []

    def look(name: str, address: IPv4Address) -> None:
        seen.append((str(address), settings()["net/ipv4/conf/all/arp_ignore"] == "1"))
        add_address(name, address)

    monkeypatch.setattr(realserver, "add_address", look)
    realserver.up(cluster)
    assert seen == [("10.77.0.100", True), ("10.77.0.101", True)], real


def test_what_was_there_before_stays(real: str, cluster: Cluster) -> None:
    add_address("lo", IPv4Address("10.77.0.100"))
    realserver.up(cluster)
    realserver.down()
    assert IPv4Address("10.77.0.100") in own_addresses(), real


def test_an_address_that_left_the_file_leaves_lo(real: str, cluster: Cluster) -> None:
    realserver.up(cluster)
    fewer = config.parse(CONF.replace('fallback = "10.77.0.1"', ""), "/etc/lbctl/cluster.toml")
    assert realserver.up(fewer) == ["10.77.0.101/32 removed from lo"]
    assert IPv4Address("10.77.0.101") not in own_addresses(), real


def test_a_host_that_is_no_real_is_told_who_is(segment: tuple[str, str], cluster: Cluster) -> None:
    with namespaces.inside(segment[1], "no-real"):
        with pytest.raises(UsageError, match=r"this host \(10\.77\.0\.2\) is no real .*10\.77\.0\.1, 10\.77\.0\.3"):
            realserver.up(cluster)
        assert not realserver.record_path(segment[1]).exists()


def test_the_virtual_address_is_not_told_by_arp(real: str, segment: tuple[str, str], cluster: Cluster) -> None:
    realserver.up(cluster)
    for address in ("10.77.0.1", "10.77.0.100"):
        subprocess.run(
            ["ip", "netns", "exec", segment[1], "ping", "-c1", "-W1", address], capture_output=True, check=False
        )
    table = ip("-n", segment[1], "neigh")
    assert "10.77.0.1 dev eth0 lladdr" in table, real
    assert "10.77.0.100 dev eth0 lladdr" not in table


def test_the_command(real: str, tmp_path: Path) -> None:
    conf = tmp_path / "cluster.toml"
    conf.write_text(CONF)

    def lbctl(action: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lb", "realserver", action, str(conf), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    missing = lbctl("status", "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stdout)["ready"] is False
    assert "10.77.0.100/32 added to lo" in lbctl("up").stdout
    assert lbctl("up").stdout == "nothing to do: this host is ready\n"
    ready = lbctl("status")
    assert (ready.returncode, "failed" in ready.stdout) == (0, False)
    conf.write_text("no TOML")
    assert "10.77.0.100/32 removed from lo" in json.loads(lbctl("down", "--json").stdout)["changes"]
    assert lbctl("down").returncode == 0
    assert lbctl("status").returncode == 2, real


# ------------------------------------------------------------------- a tunnel's end


@pytest.fixture
def tunnelled() -> Cluster:
    """The host of `real` gets web's packets in a tunnel."""
    return config.parse(CONF.replace('"web"', '"web"\nforward = "ipip"'), "/etc/lbctl/cluster.toml")


@pytest.fixture
def device(real: str) -> str:
    """As the kernel's module makes it, or where there is none a device that every kernel has."""
    if "tunl0" not in link_names():
        tunnel_end.make_device("tunl0")
    sysctl.write("net/ipv4/conf/tunl0/rp_filter", "1")
    return real


def is_up() -> bool:
    return link("tunl0").up


def test_a_tunnels_end_is_set_up_and_down(device: str, tunnelled: Cluster) -> None:
    assert Item("tunl0", "up", "down") in realserver.status(tunnelled)
    assert "tunl0 set up" in realserver.up(tunnelled)
    assert (is_up(), sysctl.read("net/ipv4/conf/tunl0/rp_filter")) == (True, "0")
    assert all(item.ok for item in realserver.status(tunnelled))
    assert realserver.up(tunnelled) == []
    assert "tunl0 set down" in realserver.down()
    assert (is_up(), sysctl.read("net/ipv4/conf/tunl0/rp_filter")) == (False, "1"), device


def test_an_end_that_was_up_stays_up(device: str, tunnelled: Cluster) -> None:
    set_up("tunl0")
    assert "tunl0 set up" not in realserver.up(tunnelled)
    realserver.down()
    assert is_up(), device


def test_an_end_that_the_file_does_not_need_any_more(device: str, tunnelled: Cluster, cluster: Cluster) -> None:
    realserver.up(tunnelled)
    assert realserver.up(cluster) == ["tunl0 set down"]
    assert not is_up()
    assert all(item.ok for item in realserver.status(cluster)), device


PAIRS = (
    CONF.replace('"10.77.0.1" }, {', '"2001:db8:77::1" }, {').replace('"web"', '"web"\nforward = "ipip"')
    + """
[[virtual]]
name = "six"
address = "2001:db8:77::105"
port = 80
forward = "ipip"
real = [{ address = "10.77.0.1" }]
"""
)


def test_ends_of_other_pairs(real: str) -> None:
    """Settings of IPv4 where there is IPv4 inside, and those against ARP for virtual addresses of IPv4 alone."""
    cluster = config.parse(PAIRS, "/etc/lbctl/cluster.toml")
    add_address("eth0", IPv6Address("2001:db8:77::1"), 64)
    for name in ("ip6tnl0", "sit0"):
        if name not in link_names():
            tunnel_end.make_device(name)
    sysctl.write("net/ipv4/conf/ip6tnl0/rp_filter", "1")
    changes = realserver.up(cluster)
    assert {"sit0 set up", "ip6tnl0 set up"} <= set(changes)
    assert {"10.77.0.100/32 added to lo", "2001:db8:77::105/128 added to lo"} <= set(changes)
    assert sysctl.read("net/ipv4/conf/ip6tnl0/rp_filter") == "0"
    items = {item.name: item.found for item in realserver.status(cluster)}
    assert items["mode of ip6tnl0"] == "any"
    assert "net/ipv4/conf/eth0/arp_ignore" in items
    assert "net/ipv4/conf/sit0/rp_filter" not in items
    assert all(item.ok for item in realserver.status(cluster)), real


@pytest.mark.parametrize("end", dict.fromkeys(tunnel.ENDS.values()))
def test_a_missing_module_is_named(real: str, end: tunnel.End) -> None:
    if tunnel.is_available(end):
        tunnel.create(end)
        assert end.device in link_names()
    else:
        with pytest.raises(NetworkError, match=f"this kernel has no {end.module}; try `modprobe {end.module}`"):
            tunnel.create(end)
        assert end.device not in link_names(), real


def test_the_kernels_own_end_or_its_refusal(real: str, tunnelled: Cluster) -> None:
    """Whichever kernel this is: nothing is half done."""
    before, addresses = settings(), own_addresses()
    assert [item.found for item in realserver.status(tunnelled) if item.name == "tunl0"] in (["missing"], ["down"])
    if tunnel.is_available(tunnel.IPIP):
        realserver.up(tunnelled)
        assert "ipip" in ip("-n", real, "-d", "link", "show", "tunl0")
        assert is_up()
    else:
        with pytest.raises(NetworkError, match="cannot create tunl0: this kernel has no ipip; try `modprobe ipip`"):
            realserver.up(tunnelled)
        assert (settings(), own_addresses()) == (before, addresses)
