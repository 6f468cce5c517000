"""Connection sync of a pair, from the packet program of one director to the table of the other: `python -m bench.sync`.

    python -m bench.sync
    python -m bench.sync --rates 50000 100000 --seconds 30 --json build/bench/sync.json

The lab of conf/cluster.toml with two whole directors. SYN and ACK of each connection go through the active's own
packet program (BPF_PROG_TEST_RUN, some thousand every 25 ms), so that events are made, read, signed, sent and
installed as in service; only the cable is left out. A quarter of the connections is of a persistent virtual, whose
clients have five each: their templates go over, too.

First a million connections as a snapshot: to a standby that has none, and to one whose process was killed and whose
table is still there. Seconds from the session's opening until all are in the other kernel's table. Then new
connections at each rate beside those; then at the first rate once more, while a host of the segment sends noise to the
heartbeat and sync ports of both as fast as it can. Lag is the time from a connection's last packet until the standby's
table has it as established, looked at once in each burst. CPU is of one core, of the directors' processes alone; the
bench itself, which stands for network card and clients, has a real-time priority.

Exit status 1: the tables differ at the end, events were lost, or what docs/failover.md promises is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.failover import CONF
from bench.testrun import TestRun, frame, undisturbed
from ha import digest
from lb import bpf, config
from lb.bpf import Array
from lb.cli.output import err, print_table
from lb.datapath import pins
from lb.datapath.view import View
from lb.errors import LabError
from lb.lab import observe
from lb.model import Cluster
from lb.tcp import State

ACTIVE, STANDBY = "lb1", "lb2"
VIRTUAL: Final = IPv4Address("192.168.1.105")
PLAIN, STICKY = 5000, 5001
PLAIN_OF, STICKY_OF = 3, 4
"""Of so many connections so many go to the virtual that is not persistent."""
CONNECTIONS_OF_A_CLIENT: Final = 5
PORTS: Final = 50_000
BURST_S: Final = 0.002
LOOK_S: Final = 0.0002
MOST: Final = 8_192
"""Connections of one burst. A run of the program begins and ends with a grace period of the kernel's, some 12 ms on an
idle machine (bpf_prog_change_xdp): at 100,000 a second there are 2,500 in each."""
SYN, ACK = 2, 16
HA_PORT: Final = 694
WHOLE_S: Final = 60.0
LAG_MS, SNAPSHOT_S = 100.0, 5.0
"""What is promised: of the 99th percentile at 100,000 a second, and of a million."""
PROMISED_RATE: Final = 100_000

_GET_PROGRAM, _PROGRAM_OF_LINK = 13, 8
_FIELDS: Final = np.dtype(
    {
        "names": ["client", "client_port", "virtual_port", "flags"],
        "formats": [">u4", ">u2", ">u2", "u1"],
        "offsets": [26, 34, 36, 47],
        "itemsize": 64,
    }
)


def configuration(directory: Path) -> Path:
    """The demo's file with room for the connections and the two virtuals that they go to, whose reals need no check."""
    text = CONF.read_text() + "\n[connections]\nmax = 4194304\n"
    reals = "".join(f'[[virtual.real]]\naddress = "192.168.1.10{n}"\n' for n in (1, 2))
    for name, port, more in (("plain", PLAIN, ""), ("sticky", STICKY, 'persistent = "5m"\n')):
        text += f'\n[[virtual]]\nname = "{name}"\naddress = "{VIRTUAL}"\nport = {port}\n{more}'
        text += f'[virtual.check]\ntype = "on"\n{reals}'
    path = directory / CONF.name
    path.write_text(text)
    return path


class Clients:
    """New connections through the packet program of a director that runs."""

    def __init__(self, node: str, mac: bytes) -> None:
        blank = frame(6, 0, int(VIRTUAL), (0, 0), SYN, mac + bytes.fromhex("020000000002"))
        self._run = TestRun([blank] * (2 * MOST))
        self._frames: Array = self._run.frames.view(_FIELDS)
        self._program = _program_of(node)
        self.opened = 0

    def open(self, count: int) -> tuple[Array, float]:
        """So many more, their SYNs and then their ACKs. Returns the last frame's fields, and when it was sent."""
        numbers = np.arange(self.opened, self.opened + count)
        self.opened += count
        rounds, place = np.divmod(numbers, STICKY_OF)
        sticky = place >= PLAIN_OF
        plain = rounds * PLAIN_OF + place
        fields = self._frames[: 2 * count].reshape(2, count)
        fields["client"] = np.where(
            sticky, (10 << 24 | 1 << 23) + rounds // CONNECTIONS_OF_A_CLIENT, (10 << 24) + plain // PORTS
        )
        fields["client_port"] = 1024 + np.where(sticky, rounds % CONNECTIONS_OF_A_CLIENT, plain % PORTS)
        fields["virtual_port"] = np.where(sticky, STICKY, PLAIN)
        fields["flags"][0], fields["flags"][1] = SYN, ACK
        self._run.rewind()
        self._run.gross_ns(self._program, 2 * count)
        return fields[1, -1].copy(), self._run.ended_s

    def close(self) -> None:
        """Give everything back."""
        self._run.close()
        os.close(self._program)


def _program_of(node: str) -> int:
    """A descriptor of the packet program that is attached now."""
    (path,) = pins.home(node).glob("link_*")
    link = bpf.open_pinned(path)
    number = struct.unpack_from("<I", bpf._info(link, 64), _PROGRAM_OF_LINK)[0]
    os.close(link)
    return bpf.call(_GET_PROGRAM, struct.pack("<III", number, 0, 0))


class Watch:
    """The standby's table, asked for single connections: it has them in the order in which they were opened."""

    def __init__(self, view: View) -> None:
        self._table = view.maps["connections"]
        self._waiting: deque[tuple[Array, float]] = deque()
        self.lags_s: list[float] = []

    def expect(self, fields: Array, opened_s: float) -> None:
        """It was opened then."""
        key = np.zeros((), self._table.key)
        for name in ("client", "client_port", "virtual_port"):
            key[name] = fields[name]
        key["virtual"], key["protocol"] = int(VIRTUAL), 6
        self._waiting.append((key, opened_s))

    def look(self) -> bool:
        """Note what has come; is nothing waited for?"""
        while self._waiting:
            key, since_s = self._waiting[0]
            found = self._table.lookup(key)
            if found is None or found["state"][0] != State.ESTABLISHED:
                return False
            self.lags_s.append(time.monotonic() - since_s)
            self._waiting.popleft()
        return True


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process: CPU seconds so far; resident memory now and at most, in MiB."""

    cpu_s: float
    rss_mib: float
    peak_mib: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Raises FileNotFoundError if it has ended."""
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        mib = [int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")]
        return cls((int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"), *mib)


class Pair:
    """The lab that is up. Raises LabError for whatever is not as it should be."""

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        self._log_at = 0

    def hosts(self) -> dict[str, dict[str, Any]]:
        """By name, as `lbctl lab status` says."""
        hosts = json.loads(observe.lbctl("lab", "status", str(self.conf), "--json"))["labs"][0]["hosts"]
        return {host["name"]: host for host in hosts}

    def pid(self, node: str) -> int:
        """Of a director."""
        (pid,) = (p["pid"] for p in self.hosts()[node]["processes"] if p["service"] == "lbctl")
        return int(pid)

    def usage(self) -> dict[str, Usage]:
        """Of both."""
        return {node: Usage.of(self.pid(node)) for node in (ACTIVE, STANDBY)}

    def settle(self) -> None:
        """Wait until both are what they should be."""
        observe.wait_until("the pair is whole", lambda: observe.is_settled(ACTIVE, STANDBY), WHOLE_S)

    def _told(self) -> list[str]:
        """What the standby has logged of being in sync since `_log_at`."""
        log = Path(self.hosts()[STANDBY]["disk"], "lbctl.log")
        return [line for line in log.read_text()[self._log_at :].splitlines() if " in sync " in line]

    def snapshot_s(self) -> float:
        """Wait until the standby is in sync, since this was asked last; how long after its session was opened it was.

        Asking for its status meanwhile would have it read the whole table again and again.
        """
        lines = observe.wait_until("the standby is in sync", self._told, WHOLE_S)
        self._log_at = Path(self.hosts()[STANDBY]["disk"], "lbctl.log").stat().st_size
        return float(lines[-1].rpartition("session_s=")[2])


def _counted(node: str) -> dict[str, int]:
    document = observe.status(node)
    return {**document["heartbeat"], **document["packets"]}


def attack(seconds: float, hosts: Sequence[str]) -> None:
    """Noise to the heartbeat and sync ports of these hosts, as much as one process can make; prints how much."""
    noise = [os.urandom(1 + number * 37 % 1400) for number in range(256)]
    ends_s, sent, streams = time.monotonic() + seconds, 0, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while time.monotonic() < ends_s:
            for data in noise:
                sock.sendto(data, (hosts[sent % len(hosts)], HA_PORT))
                sent += 1
            with (
                contextlib.suppress(OSError),
                socket.create_connection((hosts[streams % len(hosts)], HA_PORT), 1) as tcp,
            ):
                tcp.sendall(noise[streams % len(noise)])
            streams += 1
    print(sent + streams)


@contextlib.contextmanager
def attacked(cluster: Cluster, seconds: float) -> Iterator[Callable[[], int]]:
    """Both directors, by the client. Yields what tells, afterwards, how many packets that were."""
    words = (sys.executable, "-m", "bench.sync", "attack", str(seconds), *(str(node.address) for node in cluster.nodes))
    command = ("ip", "netns", "exec", "lbctl-client", *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
        try:
            yield lambda: int(attacker.communicate()[0])
        finally:
            attacker.kill()


def under_attack(pair: Pair, clients: Clients, rate: int, seconds: float) -> dict[str, Any]:
    """The same while somebody sends noise to both; and what was counted of that."""
    before = {node: observe.status(node) for node in (ACTIVE, STANDBY)}
    with attacked(config.load(pair.conf), seconds) as count:
        row = at_rate(pair, clients, rate, seconds)
        row["noise"] = round(count() / seconds)
    after = {node: observe.status(node) for node in (ACTIVE, STANDBY)}
    names = sorted(name for name in after[ACTIVE]["heartbeat"] if name.startswith(("heartbeat_", "sync_")))
    counted = {
        name: sum(after[node]["heartbeat"][name] - before[node]["heartbeat"][name] for node in after)
        for name in names
        if not name.endswith(("_sent", "_received", "_deputised"))
    }
    moved = [node for node in after if after[node]["since"] != before[node]["since"]]
    print(f"noise was counted as { ({name: n for name, n in counted.items() if n}) }; roles moved: {moved or 'none'}")
    return row


def at_rate(pair: Pair, clients: Clients, rate: int, seconds: float) -> dict[str, Any]:
    """New connections for some time. noise: packets a second of an attack."""
    err.print(f"{rate} a second")
    before, counted, opened = pair.usage(), _counted(ACTIVE), clients.opened
    with contextlib.closing(View.open(STANDBY)) as view, undisturbed():
        watch = Watch(view)
        began_s = time.monotonic()
        next_s = began_s
        while (now_s := time.monotonic()) < began_s + seconds:
            if now_s >= next_s:
                due = min(int((now_s - began_s) * rate) - (clients.opened - opened), MOST)
                if due > 0:
                    watch.expect(*clients.open(due))
                next_s = max(next_s + BURST_S, now_s)
            watch.look()
            time.sleep(LOOK_S)
        took_s = time.monotonic() - began_s
        observe.wait_until("the standby has all", watch.look, WHOLE_S)
        lags_ms = np.array(watch.lags_s) * 1000
    after, more = pair.usage(), _counted(ACTIVE)
    row = {
        "asked": rate,
        "noise": 0,
        "opened": round((clients.opened - opened) / took_s),
        **{f"p{part:g}_ms": round(float(np.percentile(lags_ms, part)), 1) for part in (50, 99, 99.9, 100)},
        "lost": more["events_lost"] - counted["events_lost"],
        "overflows": more["sync_overflow"] - counted["sync_overflow"],
        **{f"{node}_cpu": round((after[node].cpu_s - before[node].cpu_s) / took_s, 2) for node in after},
        **{f"{node}_mib": round(after[node].peak_mib) for node in after},
    }
    err.print(str(row))
    return row


def fill(clients: Clients, count: int) -> None:
    """So many connections, at a rate that the ring of events can take."""
    began_s = time.monotonic()
    while clients.opened < count:
        clients.open(min(count - clients.opened, MOST // 2))
        time.sleep(max(0.0, began_s + clients.opened / PROMISED_RATE - time.monotonic()))


def rejoin(pair: Pair, what: str, leave: Any) -> dict[str, Any]:
    """The standby goes in some way, and comes back."""
    err.print(f"a standby that was {what}")
    leave()
    observe.wait_until("the standby is gone", lambda: not observe.status(STANDBY))
    active = Usage.of(pair.pid(ACTIVE))
    raising = subprocess.Popen([*observe.LBCTL, "lab", "up", str(pair.conf)], stdout=subprocess.DEVNULL)
    seconds = pair.snapshot_s()
    after = pair.usage()
    raising.wait()
    pair.settle()
    return {
        "standby": what,
        "rows": sum(map(len, _tables()[STANDBY])),
        "seconds": seconds,
        f"{ACTIVE}_cpu_s": round(after[ACTIVE].cpu_s - active.cpu_s, 2),
        f"{STANDBY}_cpu_s": round(after[STANDBY].cpu_s, 2),
        **{f"{node}_mib": round(usage.peak_mib) for node, usage in after.items()},
    }


def _tables() -> dict[str, tuple[Array, ...]]:
    """What both kernels hold."""
    tables = {}
    for node in (ACTIVE, STANDBY):
        with contextlib.closing(View.open(node)) as view:
            tables[node] = view.snapshot()
    return tables


def measure(pair: Pair, given: argparse.Namespace) -> dict[str, Any]:
    """One run in the lab that is up."""
    words = observe.run_in(ACTIVE, "ip", "-br", "link", "show", "dev", "eth0").split()
    clients = Clients(ACTIVE, bytes.fromhex(words[2].replace(":", "")))
    try:
        err.print(f"opening {given.known} connections")
        fill(clients, given.known)
        pair.settle()
        pair.snapshot_s()
        leaving = {
            "empty": lambda: observe.lbctl("down", "--node", STANDBY),
            "restarted": lambda: os.kill(pair.pid(STANDBY), signal.SIGKILL),
        }
        snapshots = [rejoin(pair, what, leave) for what, leave in leaving.items() if given.known]
        rates = [at_rate(pair, clients, rate, given.seconds) for rate in given.rates]
        rates += [under_attack(pair, clients, rate, given.seconds) for rate in given.rates[:1]]
    finally:
        clients.close()
    tables = _tables()
    sums = {node: digest.sums(families) for node, families in tables.items()}
    return {
        "snapshots": snapshots,
        "rates": rates,
        "known": {node: sum(map(len, families)) for node, families in tables.items()},
        "differing_buckets": int(np.unpackbits(np.frombuffer(digest.differing(*sums.values()), np.uint8)).sum()),
    }


def complaints(found: dict[str, Any]) -> Iterator[str]:
    """What is not as promised."""
    if found["differing_buckets"]:
        yield f"the tables differ in {found['differing_buckets']} of {digest.BUCKETS} buckets"
    for snapshot in found["snapshots"]:
        if snapshot["seconds"] > SNAPSHOT_S:
            yield f"a snapshot to a standby that was {snapshot['standby']} took {snapshot['seconds']} s"
    for row in found["rates"]:
        if row["lost"] or row["overflows"]:
            yield f"{row['asked']} a second: {row['lost']} events were lost, {row['overflows']} resyncs"
        if row["asked"] <= PROMISED_RATE and (row["opened"] < 0.98 * row["asked"] or row["p99_ms"] > LAG_MS):
            yield f"{row['asked']} a second: {row['opened']} were, the 99th percentile of lag is {row['p99_ms']} ms"


def run(given: argparse.Namespace) -> int:
    """The whole of it."""
    with tempfile.TemporaryDirectory(prefix="lbctl-sync-") as directory:
        pair = Pair(configuration(Path(directory)))
        config.load(pair.conf)
        load = os.getloadavg()[0]
        observe.lbctl("lab", "up", str(pair.conf))
        try:
            pair.settle()
            found = {"load_before": load, **measure(pair, given)}
        finally:
            observe.lbctl("lab", "down", str(pair.conf))
    for key, title in (
        ("snapshots", f"{given.known} connections at once"),
        ("rates", f"new connections, {given.seconds:g} s each, a second"),
    ):
        if found[key]:
            print_table(tuple(found[key][0]), [tuple(row.values()) for row in found[key]], title)
    print(f"known at the end: {found['known']}; load of the machine before: {load:.1f}")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1))
    wrong = list(complaints(found))
    for line in wrong:
        err.print(line)
    return 1 if wrong else 0


def main() -> None:
    """Entry point; `attack` is this program's own part in the lab."""
    match sys.argv[1:]:
        case ["attack", seconds, *hosts]:
            return attack(float(seconds), hosts)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--known", type=int, default=1_000_000, help="connections before those at a rate; 0: no snapshots"
    )
    parser.add_argument("--rates", type=int, nargs="*", default=[50_000, 100_000], help="a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate")
    parser.add_argument("--json", type=Path, help="where to keep the numbers")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(run(parser.parse_args()))
    except LabError as error:
        err.print(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
