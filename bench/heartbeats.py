"""Heartbeats of a busy pair: how late they leave, and whether anybody is taken for dead: `python -m bench.heartbeats`.

    python -m bench.heartbeats --seconds 600
    python -m bench.heartbeats --seconds 600 --keepalive 10ms --deadtime 40ms --json build/bench/heartbeats.json

The lab of conf/cluster.toml, with everything at once that a director has to do: health checks (as many a second as
1,000 reals with one each), new connections at a rate, all of which go to the standby, and one process a CPU that does
nothing but compute. Heartbeats are taken off the standby's and the active's cable with the kernel's time. Late is what
the distance between two of one sender is above keepalive. The floor is a process with a real-time priority that does
nothing but wake every keepalive: so late is this machine itself. Exit status 1: a role moved, or the 99.9th percentile
of the active's lateness is above a quarter of keepalive.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.failover import CONF
from bench.testrun import undisturbed
from lb import config
from lb.cli.output import err, print_table
from lb.errors import LabError
from lb.lab import observe
from lb.model import Cluster

CHECKED: Final = 20
"""Virtuals beside the demo's; each checks both reals."""
FLOOD_PORT: Final = 5000
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS, _ETH_P_ALL = 26, 35, 3
_TIMESPEC: Final = struct.Struct("qq")
_INSTRUCTION: Final = struct.Struct("HBBI")
HEARTBEATS_ONLY: Final = (
    *((0x30, 0, 0, 9), (0x15, 0, 3, 17)),  # the protocol of an IPv4 packet: UDP
    *((0x28, 0, 0, 22), (0x15, 0, 1, 694)),  # its port
    *((0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)),
)
"""A filter for the tap (classic BPF): code, where to go on if true and if not, operand."""


def configuration(directory: Path, given: argparse.Namespace) -> Path:
    """The demo's file with these timings, more virtuals with quick checks, and one for the flood."""
    text = CONF.read_text()
    for key, value in (("keepalive", given.keepalive), ("deadtime", given.deadtime)):
        text, count = re.subn(rf'(?m)^{key} = "[^"]*"', f'{key} = "{value}"', text)
        assert count == 1
    text = re.sub(r"(?m)^warntime = .*$", "", text)
    reals = "".join(f'[[virtual.real]]\naddress = "192.168.1.10{n}"\n' for n in (1, 2))
    interval_ms = round(1000 * 2 * CHECKED / given.checks)
    for number in range(CHECKED):
        text += (
            f'\n[[virtual]]\nname = "v{number}"\naddress = "192.168.1.105"\nport = {6000 + number}\n[virtual.check]\n'
        )
        text += f'type = "connect"\nport = 80\ninterval = "{interval_ms}ms"\n{reals}'
    text += f'\n[[virtual]]\nname = "flood"\naddress = "192.168.1.105"\nport = {FLOOD_PORT}\nprotocol = "udp"\n'
    text += f'[virtual.check]\ntype = "on"\n{reals}'
    path = directory / "cluster.toml"
    path.write_text(text)
    return path


def burn() -> None:
    """A process that computes."""
    while True:
        sum(range(1000))


def flood(interface: str, virtual: str, rate: int, seconds: float) -> None:
    """Datagrams of new connections, each from an address and port of its own; in the client."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.sendto(b"x", (virtual, FLOOD_PORT))  # so that its MAC is known
        time.sleep(0.5)
    table = [line.split() for line in Path("/proc/net/arp").read_text().splitlines()]
    (mac,) = (bytes.fromhex(row[3].replace(":", "")) for row in table if row[0] == virtual)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        head = mac + bytes.fromhex("020000000002 0800".replace(" ", ""))
        began_s, sent = time.monotonic(), 0
        while (now_s := time.monotonic()) < began_s + seconds:
            while sent < (now_s - began_s) * rate:
                client = 10 << 24 | sent // 60_000
                ip = struct.pack("!BBHHHBBHI4s", 0x45, 0, 29, 0, 0, 64, 17, 0, client, socket.inet_aton(virtual))
                with contextlib.suppress(OSError):  # the queue is full: it counts as sent
                    sock.send(head + ip + struct.pack("!HHHH", 1024 + sent % 60_000, FLOOD_PORT, 9, 0) + b"x")
                sent += 1
            time.sleep(0.002)
    print(sent)


def tap(interface: str, seconds: float) -> None:
    """When each heartbeat passed the switch's port of a director, in ns, as JSON by source; in the switch."""
    code = b"".join(_INSTRUCTION.pack(*words) for words in HEARTBEATS_ONLY)
    text = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(HEARTBEATS_ONLY), ctypes.addressof(text))
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        sock.bind((interface, _ETH_P_ALL))  # a bridge takes its ports' frames before any listener to one protocol
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.settimeout(0.5)
        seen: dict[str, list[int]] = {}
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            with contextlib.suppress(TimeoutError):
                packet, extra, *_ = sock.recvmsg(64, 64)
                at_s, at_ns = _TIMESPEC.unpack(extra[0][2])
                seen.setdefault(socket.inet_ntoa(packet[12:16]), []).append(at_s * 10**9 + at_ns)
    print(json.dumps(seen))


def floor(keepalive_s: float, seconds: float) -> None:
    """When a timer with a real-time priority fired, in ns, as JSON."""
    seen, ends_s = [], time.monotonic() + seconds
    with undisturbed():
        due_s = time.monotonic() + keepalive_s
        while due_s < ends_s:
            time.sleep(max(due_s - time.monotonic(), 0.0))
            seen.append(time.monotonic_ns())
            due_s = seen[-1] / 1e9 + keepalive_s
    print(json.dumps(seen))


def lateness_ms(times_ns: list[int], keepalive_s: float) -> Any:
    """How much longer than keepalive each took to come."""
    return np.maximum(np.diff(np.sort(np.array(times_ns))) / 1e6 - keepalive_s * 1000, 0.0)


def percentiles(late_ms: Any) -> dict[str, float]:
    """Of so many heartbeats."""
    parts = {f"p{part:g}_ms": round(float(np.percentile(late_ms, part)), 2) for part in (50, 99, 99.9, 100)}
    return {"heartbeats": len(late_ms) + 1, **parts}


@contextlib.contextmanager
def burning(processes: int) -> Iterator[None]:
    """So many CPUs are busy."""
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(processes)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.join()


def _in(where: str, *words: str) -> subprocess.Popen[str]:
    command = ("ip", "netns", "exec", where, sys.executable, "-m", "bench.heartbeats", *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def measure(cluster: Cluster, given: argparse.Namespace) -> dict[str, Any]:
    """One run in the lab that is up."""
    nodes = [node.name for node in cluster.nodes]
    before = {node: observe.status(node) for node in nodes}
    switch, seconds = f"lbctl-switch-{cluster.cluster.name}", str(given.seconds)
    virtual = str(cluster.virtuals[0].address)
    with burning(given.burners):
        processes = [_in(switch, "tap", node, seconds) for node in nodes]
        processes.append(_in(switch, "floor", str(cluster.ha.keepalive), seconds))
        flooding = _in("lbctl-client", "flood", "eth0", virtual, str(given.rate), seconds)
        try:
            *taps, timer = [json.loads(process.communicate()[0]) for process in processes]
            opened = int(flooding.communicate()[0])
        finally:
            for process in (*processes, flooding):
                process.kill()
        after = {node: observe.status(node) for node in nodes}
    found: dict[str, Any] = {"opened": opened, "seconds": given.seconds, "nodes": []}
    found["floor"] = percentiles(lateness_ms(timer, cluster.ha.keepalive))
    for node, seen in zip(nodes, taps, strict=True):
        late = lateness_ms(seen[str(cluster.node(node).address)], cluster.ha.keepalive)
        found["nodes"].append(
            {
                "node": node,
                "role": before[node]["role"],
                "moved": before[node]["since"] != after[node]["since"],
                **percentiles(late),
                "stalls": after[node]["heartbeat"]["stalls"] - before[node]["heartbeat"]["stalls"],
                "lag_ms": after[node]["sync"]["lag_ms"],
                "overflows": after[node]["heartbeat"]["sync_overflow"],
            }
        )
    return found


def run(given: argparse.Namespace) -> int:
    """The whole of it."""
    with tempfile.TemporaryDirectory(prefix="lbctl-heartbeats-") as directory:
        path = configuration(Path(directory), given)
        cluster = config.load(path)
        observe.lbctl("lab", "up", str(path))
        try:
            nodes = [node.name for node in cluster.nodes]
            observe.wait_until("the pair is whole", lambda: observe.is_settled(*nodes), 60)
            found = measure(cluster, given)
        finally:
            observe.lbctl("lab", "down", str(path))
    columns = ("node", "role", "heartbeats", "p50_ms", "p99_ms", "p99.9_ms", "p100_ms", "stalls", "moved")
    title = (
        f"lateness of heartbeats: {given.seconds:g} s, {found['opened']} connections, {given.burners} busy processes"
    )
    rows = [*found["nodes"], {"node": "floor", **found["floor"]}]
    print_table(columns, [tuple(row.get(column, "") for column in columns) for row in rows], title)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1))
    quarter_ms = cluster.ha.keepalive * 250
    late = [n["node"] for n in found["nodes"] if n["role"] == "active" and n["p99.9_ms"] > quarter_ms]
    moved = [n["node"] for n in found["nodes"] if n["moved"]]
    if late:
        err.print(f"{', '.join(late)}: the 99.9th percentile is above a quarter of keepalive, {quarter_ms:g} ms")
    if moved:
        err.print(f"{', '.join(moved)}: the role moved, and nobody was dead")
    return 1 if late or moved else 0


def main() -> None:
    """Entry point; `tap`, `floor` and `flood` are this program's own parts in the lab."""
    match sys.argv[1:]:
        case ["tap", interface, seconds]:
            return tap(interface, float(seconds))
        case ["floor", keepalive_s, seconds]:
            return floor(float(keepalive_s), float(seconds))
        case ["flood", interface, virtual, rate, seconds]:
            return flood(interface, virtual, int(rate), float(seconds))
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--keepalive", default="100ms")
    parser.add_argument("--deadtime", default="500ms")
    parser.add_argument("--checks", type=int, default=1000, help="a second")
    parser.add_argument("--rate", type=int, default=50_000, help="new connections a second")
    parser.add_argument("--burners", type=int, default=os.cpu_count() or 1, help="busy processes")
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
