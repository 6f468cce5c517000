"""Several links for heartbeats, on real interfaces: one that fails is seen, and is no failover."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.netns.conftest import ip
from tests.unit.ha_process import Process

PORT = 694
HOSTS = ("10.77.0.1", "10.77.0.2")
HOSTS6 = ("fd77::1", "fd77::2")


@pytest.mark.parametrize("hosts", [HOSTS, HOSTS6], ids=["IPv4", "IPv6"])
def test_a_failed_link_is_no_failover(segment: tuple[str, str], hosts: tuple[str, str]) -> None:
    """Unicast on eth0; broadcast and multicast on eth1, which nobody gave an address. IPv6: all but broadcast."""
    here, there = segment
    ip("-n", here, "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", there)
    for name, address in zip(segment, HOSTS6, strict=True):
        ip("-n", name, "link", "set", "eth1", "up")
        ip("netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.eth0.keep_addr_on_down=1")  # as a lost carrier does
        ip("-n", name, "address", "add", f"{address}/64", "dev", "eth0", "nodad")

    async def scenario() -> None:
        nodes = [
            await Process.start(name, PORT, hosts, "ip", "netns", "exec", where, interfaces=("eth1",))
            for name, where in zip(("lb1", "lb2"), segment, strict=True)
        ]
        try:
            await nodes[0].says("active beside up standby in sync")
            for node in nodes:
                await node.says("links up up up")
            for interface, states in (("eth0", "links down up up"), ("eth1", "links up down down")):
                cut_s = time.clock_gettime(time.CLOCK_MONOTONIC)
                ip("-n", here, "link", "set", interface, "down")
                for node in nodes:
                    await node.says(states, cut_s)
                ip("-n", here, "link", "set", interface, "up")
                for node in nodes:
                    await node.says("links up up up", cut_s)
            words = [word for node in nodes for _, word in node.words]
            assert not [word for word in words if "down" in word and not word.startswith("links")]
            assert words.count("take") == 1
        finally:
            for node in nodes:
                await node.end()

    asyncio.run(scenario())


def test_a_link_whose_interface_goes_and_comes_back(segment: tuple[str, str]) -> None:
    here, there = segment

    def plug() -> None:
        ip("-n", here, "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", there)
        for name in segment:
            ip("-n", name, "link", "set", "eth1", "up")

    async def scenario() -> None:
        nodes = [
            await Process.start(name, PORT, HOSTS, "ip", "netns", "exec", where, interfaces=("eth1",))
            for name, where in zip(("lb1", "lb2"), segment, strict=True)
        ]
        try:
            for _ in range(2):
                since_s = time.clock_gettime(time.CLOCK_MONOTONIC)
                plug()
                for node in nodes:
                    await node.says("links up up up", since_s)
                ip("-n", here, "link", "delete", "eth1")
                for node in nodes:
                    await node.says("links up down down", since_s)
        finally:
            for node in nodes:
                await node.end()

    asyncio.run(scenario())
