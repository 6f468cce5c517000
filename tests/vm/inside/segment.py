"""Hosts with a card of their own on one segment: a client, two reals, and a director with several to choose from.

Each is a network namespace. `lbctl` is run by a child of this process, which has imported it already: on an emulated
CPU that alone takes ten seconds a command.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import lb.cli.doctor
import lb.cli.run
import lb.daemon  # noqa: F401 (before the fork, so that no child has to)
from lb import client, namespaces, rundir
from lb.cli import main
from lb.datapath.view import View
from lb.errors import LbctlError
from lb.lab.observe import POLL_S, wait_until
from tests.packet.frames import Ends, Shape, packet

HOSTS = {"client": "eth0", "web1": "eth1", "web2": "eth2", "director": None}
"""Each host's card; the director gets those that are left."""
REALS = ("web1", "web2")
VLAN = 5
PATIENCE_S = 600.0
LOST_S = 20.0
"""A segment that has not arrived after that never will."""

ACK, SYN = 0x10, 0x02
FLOWS = 128
IN_FLIGHT, PACE_S = 16, 0.5
"""So many segments are sent before those have arrived; for the latest of them nobody waits longer."""
_TCP = 6
_FOREIGN_HOST = 50
"""Whose segments nobody answers: no host has this address."""
_DOWNLOAD = bytes(range(256)) * 4096


def address_of(host: str, network: int = 0) -> str:
    """In 10.9.0.0/24, or in the VLAN's 10.9.5.0/24."""
    return f"10.9.{network}.{1 + list(HOSTS).index(host)}"


def virtual(network: int = 0) -> str:
    """The virtual address."""
    return f"10.9.{network}.100"


def sh(host: str, command: str) -> str:
    """What a command prints, run in a host's network with its own /sys."""
    words = ["ip", "netns", "exec", host, "sh", "-ec", command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
    return done.stdout


def child(work: Callable[[], Any], host: str, log: Path) -> int:
    """The number of a new process that does this in a host's network and then ends."""
    pid = os.fork()
    if not pid:
        _work(work, host, log)
    return pid


def _work(work: Callable[[], Any], host: str, log: Path) -> NoReturn:
    status = 1
    try:
        with log.open("ab") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
        namespaces.enter(host, host)
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        sys.stdout.flush()
        os._exit(status)


def end(pid: int, with_signal: signal.Signals = signal.SIGKILL) -> None:
    """Stop a child, and wait for it."""
    os.kill(pid, with_signal)
    os.waitpid(pid, 0)


def _lbctl(*words: str) -> None:
    sys.argv = ["lbctl", *words]
    main()


def run_lbctl(log: Path, *words: str) -> tuple[int, str]:
    """`lbctl WORDS…` on the director, to its end: its exit status and what it said."""
    log.unlink(missing_ok=True)
    _, status = os.waitpid(child(lambda: _lbctl(*words), "director", log), 0)
    return os.waitstatus_to_exitcode(status), log.read_text()


def make() -> None:
    """The hosts, and the VLAN on all but the director; its cards are left down."""
    for module in ("virtio_net", "e1000", "8021q"):
        subprocess.run(["modprobe", module], check=True)
    subprocess.run(["modprobe", "bonding", "max_bonds=0"], check=True)
    cards = sorted(name for _, name in socket.if_nameindex() if name.startswith("eth"))
    for host, card in HOSTS.items():
        subprocess.run(["ip", "netns", "add", host], check=True)
        for name in [card] if card else [name for name in cards if name not in HOSTS.values()]:
            subprocess.run(["ip", "link", "set", name, "netns", host], check=True)
        quiet = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done; ip link set lo up"
        sh(host, f"{quiet}; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
        if card:
            sh(host, f"ip link set {card} up; ip address add {address_of(host)}/24 dev {card}")
            sh(host, f"ip link add link {card} name vlan type vlan id {VLAN}")
            sh(host, f"ip link set vlan up; ip address add {address_of(host, VLAN)}/24 dev vlan")
    for host in REALS:
        sh(host, "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce")
        sh(host, f"ip address add {virtual()}/32 dev lo; ip address add {virtual(VLAN)}/32 dev lo")


def remove() -> None:
    """What `make` made, and what directors leave on purpose."""
    for path in rundir.RUN_DIR.glob("director.*"):
        path.unlink()
    for host in HOSTS:
        subprocess.run(["ip", "netns", "delete", host], check=True)


def serve(host: str) -> None:
    """Answer every connection to port 80 with the host's name; one that says something else with much more."""
    with socket.create_server(("", 80), backlog=128) as listening:
        while True:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE_S)
                asked = connection.recv(100)
                connection.sendall(_DOWNLOAD if asked == b"much" else host.encode())


def ask(word: bytes, network: int = 0) -> bytes:
    """What a real says to that; by a connection of its own to the virtual address."""
    with (
        namespaces.inside("client", "client"),
        socket.create_connection((virtual(network), 80), timeout=PATIENCE_S) as connection,
    ):
        connection.sendall(word)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def answers(count: int, network: int = 0) -> Counter[str]:
    """Who answered."""
    return Counter(ask(b"who", network).decode() for _ in range(count))


def download_is_whole() -> bool:
    """A megabyte by a connection to the virtual address."""
    return ask(b"much") == _DOWNLOAD


class Flows:
    """Segments of many connections that nobody had before, seen again by the reals that they reach.

    interface: the director's.
    """

    _ports = itertools.count(1024, FLOWS)

    def __init__(self, interface: str) -> None:
        first_port = next(self._ports)
        self.ports = range(first_port, first_port + FLOWS)
        self.sent = 0
        self.reached: dict[int, Counter[str]] = {port: Counter() for port in self.ports}
        mac = bytes.fromhex(sh("director", f"cat /sys/class/net/{interface}/address").strip().replace(":", ""))
        self._mac = mac
        self._client = _socket("client", "eth0")
        self._reals = {host: _socket(host, str(HOSTS[host])) for host in REALS}

    def __enter__(self) -> Flows:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._client, *self._reals.values()):
            opened.close()

    def send(self, flags: int) -> None:
        """One segment of each connection."""
        for port in self.ports:
            ends = Ends(self._mac, _number(f"10.9.0.{_FOREIGN_HOST}"), _number(virtual()), port, 80, _TCP)
            frame = packet(ends, Shape(flags=flags))
            self._client.send(frame[:24] + _checksum(frame[14:34]) + frame[26:])  # a bridge may ask for it
            self.sent += 1
            self._pace()

    def _pace(self) -> None:
        """Generic XDP has no queue behind it: what a card cannot take at once is lost (generic_xdp_tx)."""
        deadline = time.monotonic() + PACE_S
        while self.sent % IN_FLIGHT == 0 and self.arrived() < self.sent and time.monotonic() < deadline:
            pass

    def arrived(self) -> int:
        """Segments that have reached a real so far, by `reached`."""
        for host, seen in self._reals.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame = seen.recv(2048, socket.MSG_DONTWAIT)
                    port = int.from_bytes(frame[34:36], "big")
                    if frame[26:30] == bytes((10, 9, 0, _FOREIGN_HOST)) and port in self.reached:
                        self.reached[port][host] += 1
        return sum(seen.total() for seen in self.reached.values())

    def all_arrived(self) -> None:
        """None was lost, and no connection has been at two reals. Raises LabError, or fails."""
        deadline = time.monotonic() + LOST_S
        while (arrived := self.arrived()) < self.sent and time.monotonic() < deadline:
            time.sleep(POLL_S)
        assert arrived == self.sent, f"{arrived} segments arrived of {self.sent}; {_counters()}"
        astray = {port: dict(seen) for port, seen in self.reached.items() if len(seen) != 1}
        assert not astray, f"connections that reached not one real: {astray}"


def _counters() -> dict[str, int]:
    view = View.open("director")
    try:
        return {name: count for name, count in view.counters().items() if count}
    finally:
        view.close()


def _socket(host: str, interface: str) -> socket.socket:
    with namespaces.inside(host, host):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        opened.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        opened.bind((interface, 0))
        return opened


def _checksum(header: bytes) -> bytes:
    """Of an IPv4 header that has none yet (RFC 1071)."""
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")


class Director:
    """`lbctl up` on an interface of the director's. log: what it has said."""

    def __init__(self, folder: Path, interface: str, attach: str = "auto", network: int = 0) -> None:
        self.interface, self.network = interface, network
        self.conf, self.log = folder / "cluster.toml", folder / "lbctl.log"
        reals = ", ".join(f'{{ address = "{address_of(real, network)}" }}' for real in REALS)
        self.conf.write_text(f"""
[cluster]
name = "cards"
interface = "{interface}"
attach = "{attach}"
[[node]]
name = "director"
address = "{address_of("director", network)}"
[[virtual]]
name = "web"
address = "{virtual(network)}"
port = 80
check = {{ type = "connect", interval = "5s", timeout = "4s" }}
real = [{reals}]
""")
        self._pid = 0

    def __enter__(self) -> Director:
        """Running, with both reals up."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid:
            end(self._pid, signal.SIGTERM)

    def start(self) -> None:
        """In the foreground, as a child of ours."""
        words = ["up", str(self.conf), "--node", "director"]
        self._pid = child(lambda: _lbctl(*words), "director", self.log)
        wait_until("the director is active and both reals are up", self._is_ready, PATIENCE_S)

    def crash(self) -> None:
        """kill -9."""
        end(self._pid)
        self._pid = 0

    def _is_ready(self) -> bool:
        ended, _ = os.waitpid(self._pid, os.WNOHANG)
        if ended:
            self._pid = 0
            raise AssertionError(f"lbctl up ended:\n{self.log.read_text()}")
        try:
            found = client.call("director", "GET", "/status", timeout_s=10.0)
        except LbctlError:
            return False
        return found["role"] == "active" and {r["health"] for r in found["virtuals"][0]["reals"]} == {"up"}

    @property
    def mode(self) -> str:
        """native or generic, as the kernel shows it; of several interfaces above each other, that of ours."""
        shown = sh("director", f"ip link show {self.interface}")
        return {"xdpgeneric": "generic", "xdp": "native"}[re.findall(r"\bxdp\w*", shown)[0]]

    def said(self) -> str:
        """Its log."""
        return self.log.read_text()

    def findings(self) -> dict[str, tuple[str, str]]:
        """What `lbctl doctor` says of the interface: level and words, by look."""
        _, said = run_lbctl(self.log.with_name("doctor"), "doctor", str(self.conf), "--node", "director", "--json")
        return {found["look"]: (found["level"], found["seen"]) for found in json.loads(said)["findings"]}

    def packets_by_cpu(self) -> list[int]:
        """Packets that went to reals so far, by the CPU that saw them."""
        view = View.open("director")
        try:
            counted: list[int] = np.asarray(view.maps["real_stats"].read()["packets"]).sum(axis=0).tolist()
        finally:
            view.close()
        return counted


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[None]:
    """The reals' web servers."""
    pids = [child(lambda host=host: serve(host), host, folder / f"{host}.log") for host in REALS]  # type: ignore[misc]
    try:
        yield
    finally:
        for pid in pids:
            end(pid)
