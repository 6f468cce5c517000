"""Real directors' failover on loopback: a pair in one loop, and `python -m tests.unit.ha_pair` as a process of its own.

A process prints one JSON line a change: what its hooks were told to do, and its role.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np

from ha.authkeys import AuthKeys
from ha.failover import Failover
from lb.connections import CONNECTION, Ours, Rows, empty
from lb.model import Cluster, ClusterSettings, Ha, Node
from tests.unit.test_ha_sync import some_rows

KEYS = AuthKeys(1, {1: b"0123456789abcdef0123456789abcdef"})
PATIENCE_S = 20.0
"""How long tests wait for what must happen; nothing is asserted on how long it took."""


def addresses() -> tuple[str, str, str]:
    """Loopback addresses that no other test process uses: two directors and a stranger."""
    pid = os.getpid()
    network = f"127.{100 + (pid >> 14) % 100}.{pid >> 7 & 127}"
    low = (pid & 127) * 2
    return f"{network}.{low % 250 + 1}", f"{network}.{low % 250 + 2}", "127.99.99.99"


def free_port() -> int:
    """A port of the first address that is free for TCP and UDP."""
    host = addresses()[0]
    with socket.socket() as tcp:
        tcp.bind((host, 0))
        return int(tcp.getsockname()[1])


def a_cluster(port: int, pair: tuple[str, str], **ha: Any) -> Cluster:
    """lb1 and lb2 at these addresses, fast enough for tests, slow enough for a busy machine."""
    nodes = tuple(Node(name=f"lb{n}", address=ip_address(a)) for n, a in enumerate(pair, 1))
    timing = {"keepalive": 0.05, "deadtime": 0.6, "initdead": 0.8, "preferred": "lb1", **ha}
    return Cluster(
        path=Path("/etc/lbctl/cluster.toml"),
        cluster=ClusterSettings(name="test", interface="lo"),
        node=nodes,
        ha=Ha(port=port, **timing),
    )


class Recorder:
    """Hooks that write down what they are told. table: what a snapshot has. fails: names of hooks that raise.

    unknown: reals that this node does not know.
    """

    def __init__(self, table: Rows | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
        self.calls: list[str] = []
        self.table = empty() if table is None else table
        self.installed: list[Rows] = []
        self.silent: list[str] = []
        self.roles: list[str] = []
        self.gone: list[str] = []
        self.given: list[bytes] = []
        self.heard: list[bytes] = []
        self.fails: set[str] = set()
        self.unknown: tuple[int, ...] = ()
        self.stranger = ""
        self._tell = tell

    def _note(self, name: str) -> None:
        self.calls.append(name)
        self._tell(name)
        if name in self.fails:
            raise OSError(f"{name} does not work today")

    async def take(self, group: str, silent: str) -> None:
        """As of `Hooks`."""
        self.silent.append(silent)
        self._note(f"take {group}".strip())

    async def release(self, group: str) -> None:
        """As of `Hooks`."""
        self._note(f"release {group}".strip())

    async def holder(self, group: str) -> str:
        """As of `Hooks`."""
        return "" if group else self.stranger

    def announce(self, group: str) -> None:
        """As of `Hooks`."""
        self._note(f"announce {group}".strip())

    def hush(self, group: str) -> None:
        """As of `Hooks`."""
        self._note(f"hush {group}".strip())

    def left(self, peer: str) -> None:
        """As of `Hooks`."""
        self.gone.append(peer)

    def now(self, group: str, role: str) -> None:
        """As of `Hooks`."""
        self.roles.append(f"{group} {role}".strip())

    def snapshot(self) -> tuple[Rows, ...]:
        """As of `Table`."""
        return (self.table,)

    def install(self, rows: Rows, ours: Ours) -> int:  # noqa: ARG002
        """As of `Table`."""
        if "install" in self.fails:
            raise OSError("install does not work today")
        known = rows[~np.isin(rows["real"], self.unknown)]
        self.installed.append(known)
        return len(rows) - len(known)

    def orders(self) -> list[bytes]:
        """As of `Shared`."""
        return self.given

    def ordered(self, orders: bytes) -> None:
        """As of `Shared`."""
        self.heard.append(orders)

    @property
    def rows(self) -> Rows:
        """All that was installed, in order."""
        return np.concatenate([np.empty(0, CONNECTION), *self.installed])

    @property
    def holds(self) -> bool:
        """Is the address here?"""
        return [call for call in self.calls if call != "announce"][-1:] == ["take"]


class Running:
    """A director's failover that runs."""

    def __init__(self, cluster: Cluster, name: str, hooks: Recorder, keys: AuthKeys) -> None:
        self.hooks = hooks
        self.failover = Failover(cluster, name, keys, hooks, hooks, hooks)
        self.task = asyncio.create_task(self.failover.run())

    @property
    def role(self) -> str:
        """Its role."""
        return self.failover.role

    def count(self, name: str) -> int:
        """One of its counters."""
        return self.failover.status().counters[name]

    async def stop(self) -> None:
        """As a crash does it: without a word."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait for it."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is anybody's
            await asyncio.sleep(0.005)


class Pair:
    """lb1 and lb2 with a port of their own."""

    def __init__(self, **ha: Any) -> None:
        one, two, self.stranger = addresses()
        self.hosts = (one, two)
        self.cluster = a_cluster(free_port(), self.hosts, **ha)
        self.port = self.cluster.ha.port
        self.running: list[Running] = []

    def start(
        self, name: str, table: Rows | None = None, cluster: Cluster | None = None, keys: AuthKeys = KEYS
    ) -> Running:
        """A process begins."""
        running = Running(cluster or self.cluster, name, Recorder(table), keys)
        self.running.append(running)
        return running


@contextlib.asynccontextmanager
async def a_pair(**ha: Any) -> AsyncIterator[Pair]:
    """Nothing runs yet; what does at the end is stopped."""
    pair = Pair(**ha)
    try:
        yield pair
    finally:
        for running in pair.running:
            await running.stop()


@contextlib.asynccontextmanager
async def both(table: Rows | None = None, **ha: Any) -> AsyncIterator[tuple[Pair, Running, Running]]:
    """lb1 active and lb2 standby in sync with it."""
    async with a_pair(**ha) as pair:
        one, two = pair.start("lb1", table), pair.start("lb2")
        await until(lambda: (one.role, two.role) == ("active", "standby"))
        await until(lambda: one.failover.status().peers[0]["able"])
        await until(lambda: one.failover.status().sync["state"] == "in-sync")
        yield pair, one, two


async def _process(name: str, port: int, pair: tuple[str, str], *interfaces: str) -> None:
    """Run until killed; a table of 1,000 connections. interfaces: for heartbeats by broadcast and multicast, too.

    Multicast is of the family of the nodes' addresses.
    """

    def tell(word: str) -> None:
        print(json.dumps({"at": time.clock_gettime(time.CLOCK_MONOTONIC), "word": word}), flush=True)

    group = ip_address("ff02::6:94" if ":" in pair[0] else "239.255.6.94")
    cluster = a_cluster(port, pair, broadcast=interfaces, multicast=interfaces, group=group)
    recorder = Recorder(some_rows(1000), tell)
    failover = Failover(cluster, name, KEYS, recorder, recorder, recorder)
    running = asyncio.create_task(failover.run())
    word, session, links = "", False, ""
    while not running.done():
        status = failover.status()
        peer = status.peers[0]
        if links != (now := "links " + " ".join(link["state"] for link in peer["links"])):
            links = now
            tell(links)
        if session != (status.sync["state"] != "no-peer"):
            session = not session
            tell("session" if session else "no session")
        new = f"{status.role} beside {peer['state']} {peer['role']}{' in sync' if peer['in_sync'] else ''}"
        if new != word:
            word = new
            tell(word)
        await asyncio.sleep(0.002)
    await running


if __name__ == "__main__":
    asyncio.run(_process(sys.argv[1], int(sys.argv[2]), (sys.argv[3], sys.argv[4]), *sys.argv[5:]))
