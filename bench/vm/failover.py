"""What clients notice when a director goes: keepalived with IPVS and lbctl by turns; runs in a guest (`bench.vm`).

The same lab of conf/cluster.toml for each way: client, two directors, two web servers on one switch; a prober and a
download. After each fault its director's host loses power and comes back. Prints a JSON document. Needs a kernel with
IPVS, and keepalived. Nothing runs `lbctl` between the first packet and the last: the guest has one CPU for everybody.

    link down    the active's interface is set down: its kernel and processes stay
    silent       its cable is pulled out of the switch: the interface stays up
    stop         it is told to go
    kill -9      all of its processes end at once: its kernel goes on, and forwards what still comes
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Protocol

from bench.failover import CONF, timed
from bench.vm.prober import Prober
from lb import client, config
from lb.errors import LbctlError
from lb.lab import observe, services
from lb.lab import state as labs
from lb.lab.webserver import DOWNLOAD_BYTES

ADVERTS_S = (1.0, 0.1, 0.01)
MINUTE_S = 60.0
STEADY_S = 5.0
"""Before the fault, unless it is said otherwise: who takes over now does so for nothing."""
AFTER_S = 6.0
SETTLED_S = 300.0
SITE = 1 << 17
"""Connections of the fastest: the sweeper's walk over a table for a million holds up a CPU as slow as the guest's."""
CURL_S = 60.0
"""What is left of a download is there well within that, or within the time that the rest took."""

CLUSTER = config.load(CONF)
VIRTUAL = CLUSTER.virtuals[0]
NODES = tuple(node.name for node in CLUSTER.nodes)
INTERFACE = CLUSTER.cluster.interface
CLIENT = "lbctl-client"
SWITCH = f"lbctl-switch-{CLUSTER.cluster.name}"

KEEPALIVED = """\
global_defs {{
    router_id {node}
    vrrp_version 3
    vrrp_priority -20
    lvs_sync_daemon {interface} web id 51
}}
vrrp_instance web {{
    state BACKUP
    interface {interface}
    virtual_router_id 51
    priority {priority}
    advert_int {advert_s:g}
    virtual_ipaddress {{
        {address}/32 dev {interface}
    }}
}}
virtual_server {address} {port} {{
    delay_loop 2
    lb_algo rr
    lb_kind DR
    protocol TCP
{reals}
}}
"""
REAL = """\
    real_server {address} {port} {{
        TCP_CHECK {{
            connect_timeout 1
        }}
    }}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One fault. outage_ms, late_ms, failures, attempts: the prober's. download: did the one under way end whole?

    false_takeovers: by the standby, before anything had happened.
    """

    way: str
    fault: str
    outage_ms: float
    late_ms: float
    failures: int
    attempts: int
    download: bool
    false_takeovers: int


class Pair(Protocol):
    """Two directors of one kind."""

    def up(self) -> contextlib.AbstractContextManager[object]:
        """Raise the lab with them, whole and settled; take it down."""

    def revive(self, node: str) -> None:
        """Cut this host's power and switch it on again; returns when the pair is whole and settled."""

    def active(self) -> list[str]:
        """Who is active."""

    def takeovers(self, node: str) -> int:
        """How often this one became active."""

    def stop(self, node: str) -> None:
        """Tell it to go."""

    def kill(self, node: str) -> None:
        """All of its processes."""


class Keepalived:
    """keepalived with IPVS and its connection sync, as its documentation has it. advert_s: between advertisements."""

    def __init__(self, advert_s: float) -> None:
        self._advert_s = advert_s
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """The second one joins when the first is master: at short intervals both would be for a moment."""
        observe.lbctl("lab", "up", "--hosts-only", str(CONF))
        with tempfile.TemporaryDirectory() as folder:
            self._folder = Path(folder)
            try:
                for node in NODES:
                    self._start(node)
                yield
            finally:
                for node in NODES:
                    self.kill(node)
                observe.lbctl("lab", "down", str(CONF))

    def revive(self, node: str) -> None:
        """The first one becomes master again: its priority is the higher one."""
        self.kill(node)
        observe.lbctl("lab", "kill", node)
        observe.lbctl("lab", "up", "--hosts-only", str(CONF))
        self._start(node)

    def _start(self, node: str) -> None:
        reals = "".join(REAL.format(address=real.address, port=VIRTUAL.port) for real in VIRTUAL.reals)
        conf = self._folder / f"{node}.conf"
        text = KEEPALIVED.format(
            node=node, interface=INTERFACE, priority=150 - 50 * NODES.index(node), advert_s=self._advert_s,
            address=VIRTUAL.address, port=VIRTUAL.port, reals=reals,
        )  # fmt: skip
        conf.write_text(text)
        pids = (word for kind in "prc" for word in (f"-{kind}", str(self._folder / f"{node}.{kind}.pid")))
        command = ("keepalived", "--dont-fork", "--log-console", "--log-detail", "-G", "-f", str(conf), *pids)
        with self._log(node).open("wb") as log:
            self._running[node] = subprocess.Popen(
                ["ip", "netns", "exec", f"lbctl-{node}", *command], stdout=log, stderr=subprocess.STDOUT
            )
        for pause_s in (2 + 3 * self._advert_s, 0):
            observe.wait_until(f"{NODES[0]} is master", lambda: self.active() == [NODES[0]], SETTLED_S)
            time.sleep(pause_s)

    def _log(self, node: str) -> Path:
        return self._folder / f"{node}.log"

    def active(self) -> list[str]:
        """Who has the address."""
        return [node for node in NODES if str(VIRTUAL.address) in ip(f"lbctl-{node}", "-4", "address", "show")]

    def takeovers(self, node: str) -> int:
        """As it logs them."""
        return self._log(node).read_text().count("Entering MASTER STATE")

    def stop(self, node: str) -> None:
        """It sends priority 0."""
        self._running[node].terminate()

    def kill(self, node: str) -> None:
        """The parent is halted first: it would start its children again."""
        process = self._running.pop(node, None)
        if process is None or process.poll() is not None:
            return
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGSTOP)
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        process.kill()
        process.wait()


class Lbctl:
    """This very checkout's lbctl; None: the demo's times. connections: room for so many; None: for a million."""

    def __init__(
        self, keepalive: str | None = None, deadtime: str | None = None, connections: int | None = None
    ) -> None:
        self._times, self._connections = (keepalive, deadtime), connections

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Whole, and in sync."""
        with tempfile.TemporaryDirectory() as folder:
            conf = timed(Path(folder), *self._times)
            if self._connections:
                conf.write_text(f"{conf.read_text()}\n[connections]\nmax = {self._connections}\n")
            self._conf = str(conf)
            try:
                self._raise()
                yield
            finally:
                observe.lbctl("lab", "down", self._conf)

    def revive(self, node: str) -> None:
        """It comes back as standby."""
        observe.lbctl("lab", "kill", node)
        self._raise()

    def _raise(self) -> None:
        """Whatever of the lab is not there."""
        observe.lbctl("lab", "up", self._conf)
        observe.wait_until("the pair is whole", self._is_whole, SETTLED_S)
        hosts = json.loads(observe.lbctl("lab", "status", self._conf, "--json"))["labs"][0]["hosts"]
        self._pids = {
            host["name"]: [process["pid"] for process in host["processes"] if process["service"] == "lbctl"]
            for host in hosts
        }

    @staticmethod
    def _is_whole() -> bool:
        documents = [_status(node) for node in NODES]
        healths = {r["health"] for document in documents for v in document.get("virtuals", ()) for r in v["reals"]}
        return (
            sorted(document.get("role", "") for document in documents) == ["active", "standby"]
            and {document["sync"]["state"] for document in documents} == {"in-sync"}
            and healths == {"up"}
        )

    def active(self) -> list[str]:
        """As they say themselves."""
        return [node for node in NODES if _status(node).get("role") == "active"]

    def takeovers(self, node: str) -> int:
        """As it logs them: to answer would keep it, and the guest's only CPU, busy for a moment."""
        lab = labs.find(CLUSTER.cluster.name)
        assert lab
        [host] = (host for host in lab.topology.directors if host.name == node)
        return services.director_log(lab, host).read_text().count("now=active")

    def stop(self, node: str) -> None:
        """It hands over first."""
        client.call(node, "POST", "/down")

    def kill(self, node: str) -> None:
        """Whatever of it there is."""
        for pid in self._pids[node]:
            os.kill(pid, signal.SIGKILL)


def _status(node: str) -> dict[str, Any]:
    """What a director says of itself; nothing while it does not answer."""
    try:
        found: dict[str, Any] = client.call(node, "GET", "/status")
    except LbctlError:
        return {}
    return found


WAYS: dict[str, Callable[[], Pair]] = {
    **{f"keepalived {advert_s:g} s": partial(Keepalived, advert_s) for advert_s in ADVERTS_S},
    "lbctl": Lbctl,
    "lbctl 50/200 ms": partial(Lbctl, "50ms", "200ms"),
    "lbctl 10/30 ms": partial(Lbctl, "10ms", "30ms", SITE),
}
FAULTS: dict[str, Callable[[Pair, str], object]] = {
    "link down": lambda _, node: ip(f"lbctl-{node}", "link", "set", INTERFACE, "down"),
    "silent": lambda _, node: ip(SWITCH, "link", "set", node, "nomaster"),
    "stop": lambda pair, node: pair.stop(node),
    "kill -9": lambda pair, node: pair.kill(node),
}


def ip(namespace: str, *words: str) -> str:
    """What `ip` prints in a namespace."""
    return subprocess.run(["ip", "-n", namespace, *words], capture_output=True, text=True, check=True).stdout


def measure(way: str, faults: Sequence[str], steady_s: float) -> Iterator[Found]:
    """A pair of that kind; for so long nothing, and then that, for each of these faults."""
    pair = WAYS[way]()
    gone = ""
    with Busy() as busy, pair.up():
        for fault in faults:
            if gone:
                pair.revive(gone)
            [gone] = pair.active()
            yield _suffer(pair, way, fault, gone, steady_s, busy)


def _suffer(pair: Pair, way: str, fault: str, active: str, steady_s: float, busy: Busy) -> Found:
    [standby] = (node for node in NODES if node != active)
    before, false_takeovers = pair.takeovers(standby), 0
    with Download(steady_s + AFTER_S) as download, Prober(CLIENT, str(VIRTUAL.address), VIRTUAL.port) as prober:
        with busy.paused():
            for minute in range(ceil(steady_s / MINUTE_S)):
                time.sleep(min(MINUTE_S, steady_s - minute * MINUTE_S))
                false_takeovers = pair.takeovers(standby) - before
                quiet_s = min((minute + 1) * MINUTE_S, steady_s)
                print(f"{way}: {quiet_s:g} s quiet, {false_takeovers} false takeovers", file=sys.stderr, flush=True)
        FAULTS[fault](pair, active)
        with busy.paused():
            time.sleep(AFTER_S)
    seen = prober.seen
    return Found(
        way, fault, seen.outage_ms, seen.late_ms, seen.failures, seen.attempts, download.whole, false_takeovers
    )


class Busy:
    """Keeps the CPU from idling, by a process that gives way to every other one; `paused` while nothing is read.

    The guest's clock counts instructions, and jumps to the next timer where there is none to count: past all
    timeouts, if what is waited for is its disk.
    """

    def __enter__(self) -> Busy:
        self._process = subprocess.Popen(["chrt", "--idle", "0", "sh", "-c", "while :; do :; done"])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let it idle."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


class Download:
    """One that is under way for so many seconds, nine tenths of it, and then goes on to its end.

    whole: has all of it come, byte for byte?
    """

    whole = False

    def __init__(self, for_s: float) -> None:
        self._bytes_a_second = int(DOWNLOAD_BYTES * 0.9 / for_s)
        self._limit_s = CURL_S + for_s

    def __enter__(self) -> Download:
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / "download"
        url = f"http://{VIRTUAL.address}/download"
        command = ("curl", "-s", "--limit-rate", str(self._bytes_a_second), "-o", str(self._file), url)
        self._curl = subprocess.Popen(["ip", "netns", "exec", CLIENT, *command])
        observe.wait_until("the download is under way", self._has_begun, SETTLED_S)
        return self

    def _has_begun(self) -> bool:
        return self._file.exists() and self._file.stat().st_size > 0

    def __exit__(self, *_: object) -> None:
        with self._folder:
            try:
                self._curl.wait(self._limit_s)
            except subprocess.TimeoutExpired:
                self._curl.kill()
                self._curl.wait()
            self.whole = hashlib.sha256(self._file.read_bytes()).hexdigest() == observe.DOWNLOAD_DIGEST


def main() -> None:
    """What is asked for, one after another."""
    parser = argparse.ArgumentParser(prog="python -m bench.vm.failover")
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--fault", action="append", choices=FAULTS)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--steady", type=float, default=STEADY_S, metavar="SECONDS", help="before each fault")
    given = parser.parse_args()
    found = []
    for _ in range(given.runs):
        for way in given.way or WAYS:
            for one in measure(way, given.fault or list(FAULTS), given.steady):
                found.append(one)
                print(one, file=sys.stderr, flush=True)
    print(json.dumps([asdict(one) for one in found]))


if __name__ == "__main__":
    main()
