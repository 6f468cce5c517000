"""Floods of hostile packets at a director's heartbeat and sync ports, at the rate of a cable: `python -m bench.flood`.

    python -m bench.flood
    python -m bench.flood --seconds 10 --rate 500000 --kind replayed --json build/bench/flood.json

The lab of conf/cluster.toml. The frames leave the switch's port of the standby: BPF_PROG_TEST_RUN with
BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18) hands them to the cable in the kernel, each from a table of some thousand. All
heartbeats' kinds come from the active's address; what is recorded, changed and cut is a heartbeat of its present life.
A row a kind: packets a second, how many of a hundred were counted and as what, CPU of the director's process and of
the same without a flood, and what moved. Exit status 1: something was believed (a role moved, a stall, a link lost).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ha import wire
from ha.authkeys import AuthKeys
from ha.passes import Passes
from ha.state import Phase, Report
from lb import bpf, config
from lb.cli.output import err, print_table
from lb.datapath.headers import make_tree
from lb.errors import LabError
from lb.lab import observe

CONF: Final = Path(__file__).parents[1] / "conf" / "cluster.toml"
FRAMES: Final = 2_048
FRAME_BYTES: Final = 768
BURST_S: Final = 0.01
HA_PORT: Final = 694
UDP, TCP = 17, 6
STRANGER: Final = "192.168.1.77"
_LIVE_FRAMES, _TEST_RUN, _BATCH = 2, 10, 64
_NOT_HOSTILE: Final = ("heartbeat_sent", "heartbeat_received", "heartbeat_copied", "heartbeat_deputised", "sync_opened")

_TEXT = """
struct frame { u64 bytes, words[WORDS]; };
BPF_F_TABLE("array", u32, struct frame, frames, COUNT, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, sents, 1, BPF_F_MMAPABLE);

int flood(struct xdp_md *ctx)
{
	u64 *to = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *sent;
	u32 zero = 0, at;
	struct frame *frame;
	int i;

	sent = sents.lookup(&zero);
	if (!sent || to + WORDS > end)
		return XDP_DROP;
	at = *sent % COUNT;
	frame = frames.lookup(&at);
	if (!frame)
		return XDP_DROP;
#pragma unroll
	for (i = 0; i < WORDS; i++)
		to[i] = frame->words[i];
	*sent += 1;
	bpf_xdp_adjust_tail(ctx, (int)frame->bytes - 8 * WORDS);
	return XDP_TX;
}
"""


class Flood:
    """Frames, again and again, out of an interface of the caller's network namespace."""

    def __init__(self, interface: str, frames: Sequence[bytes]) -> None:
        """frames: of less than FRAME_BYTES."""
        from bcc import BPF

        self._interface = socket.if_nametoindex(interface)
        with tempfile.TemporaryDirectory() as headers:
            flags = make_tree(Path(headers))
            os.environ["BCC_KERNEL_SOURCE"] = headers
            constants = [f"-DCOUNT={len(frames)}", f"-DWORDS={FRAME_BYTES // 8}"]
            self._module = BPF(text=_TEXT.encode(), cflags=[*flags, *constants])
        self._fd = self._module.load_func(b"flood", BPF.XDP).fd
        row = np.dtype([("bytes", "u8"), ("data", f"V{FRAME_BYTES}")])
        pool = self._map("frames", row)
        for place, frame in enumerate(frames):
            pool[place] = len(frame), frame.ljust(FRAME_BYTES, b"\0")
        self._sent = self._map("sents", np.dtype("u8"))

    def _map(self, name: str, value: np.dtype[Any]) -> Any:
        return bpf.Map(os.dup(self._module[name.encode()].map_fd), np.dtype("u4"), value).mapped()

    def send(self, count: int) -> None:
        """So many, rounded up to a whole batch."""
        data = ctypes.create_string_buffer(bytes(FRAME_BYTES), FRAME_BYTES)
        context = ctypes.create_string_buffer(struct.pack("<6I", 0, FRAME_BYTES, 0, self._interface, 0, 0), 24)
        attr = struct.pack(
            "<IIIIQQIIIIQQIIII",
            *(self._fd, 0, FRAME_BYTES, 0, ctypes.addressof(data), 0, count, 0),
            *(24, 0, ctypes.addressof(context), 0, _LIVE_FRAMES, 0, _BATCH, 0),
        )
        with contextlib.suppress(InterruptedError):
            bpf.call(_TEST_RUN, attr)

    @property
    def sent(self) -> int:
        """Frames so far."""
        return int(self._sent[0])


# ------------------------------------------------------------------------------------------------------- packets


def packet(macs: bytes, protocol: int, source: str, target: str, inner: bytes) -> bytes:
    """A frame of IPv4. macs: destination and source."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 0, 0x4000, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return macs + b"\x08\0" + head[:10] + _checksum(head) + head[12:] + inner


def datagram(macs: bytes, source: str, target: str, data: bytes) -> bytes:
    """For the heartbeat port, without a checksum."""
    return packet(macs, UDP, source, target, struct.pack("!HHHH", HA_PORT, HA_PORT, 8 + len(data), 0) + data)


def segment(macs: bytes, source: str, target: str, port: int, flags: int, data: bytes) -> bytes:
    """For the sync port."""
    head = struct.pack("!HHIIBBHHH", port, HA_PORT, port << 16, 1, 0x50, flags, 65_535, 0, 0) + data
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!HH", TCP, len(head))
    checksum = _checksum(pseudo + head)
    return packet(macs, TCP, source, target, head[:16] + checksum + head[18:])


def _checksum(data: bytes) -> bytes:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data + b'x') // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


Make = Callable[[random.Random, int, bytes, bytes], bytes]
"""One frame's payload, of chance, its number, a recorded heartbeat, and one of another key."""


def _flipped(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


HEARTBEATS: Final[dict[str, Make]] = {
    "garbage": lambda chance, *_: chance.randbytes(chance.randrange(1, 700)),
    "wrong key": lambda _chance, _number, _true, other: other,
    "forged": lambda chance, _number, true, _: true[:10] + chance.randbytes(len(true) - 10),
    "replayed": lambda _chance, _number, true, _: true,
    "bits flipped": lambda chance, _number, true, _: _flipped(chance, true),
    "truncated": lambda _chance, number, true, _: true[: number % len(true)],
}
OTHERS: Final = ("strangers", "SYN to sync", "data to sync")
KINDS: Final = (*HEARTBEATS, *OTHERS)


def frames(kind: str, macs: bytes, source: str, target: str, true: bytes) -> list[bytes]:
    """What is sent. source: a peer's address; true: a heartbeat of its."""
    chance = random.Random(kind)
    report = Report(Phase.ACTIVE, 1, 0, "", True, True, True, 9)
    heartbeat = wire.Heartbeat("demo", "lb1", 5, 2**40, 5, "", report)
    [other] = wire.encode(heartbeat, Passes("demo", "lb1", 5), AuthKeys(1, {1: b"another"}))
    if kind == "strangers":
        noise = (chance.randbytes(chance.randrange(1, 700)) for _ in range(FRAMES))
        return [datagram(macs, STRANGER, target, data) for data in noise]
    if kind in OTHERS:
        flags, data = (0x02, b"") if kind == "SYN to sync" else (0x18, chance.randbytes(200))
        senders = (source, STRANGER)
        return [segment(macs, senders[n % 2], target, 1024 + n, flags, data) for n in range(FRAMES)]
    return [datagram(macs, source, target, HEARTBEATS[kind](chance, n, true, other)) for n in range(FRAMES)]


def flood(port: str, rate: int, seconds: float, path: str) -> None:
    """Frames of a file out of a port of the switch; in the switch. Prints how many were sent, and in how long."""
    stream = [bytes.fromhex(line) for line in Path(path).read_text().split()]
    sender = Flood(port, stream)
    print("ready", flush=True)
    began_s = time.monotonic()
    while (passed_s := time.monotonic() - began_s) < seconds:
        if (due := int(passed_s * rate) - sender.sent) > 0:
            sender.send(min(due, rate // 20))
        else:
            time.sleep(BURST_S / 4)
    print(json.dumps([sender.sent, time.monotonic() - began_s]))


def recorded(interface: str, source: str) -> None:
    """The next heartbeat of this source that passes an interface, as hex: MACs, then the datagram; in the switch."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sock:
        sock.bind((interface, 3))
        sock.settimeout(10)
        while True:
            frame = sock.recv(2048)
            if frame[23] == UDP and frame[26:30] == socket.inet_aton(source) and frame[36:38] == HA_PORT.to_bytes(2):
                print(frame[:12].hex(), frame[42:].hex())
                return


# ----------------------------------------------------------------------------------------------------------- runs


class Attack:
    """In the lab that is up: from the address of `source` (a node) to `target` (another)."""

    def __init__(self, cluster: str, addresses: dict[str, str], source: str, target: str) -> None:
        self._switch = f"lbctl-switch-{cluster}"
        self._source, self._target, self._port = addresses[source], addresses[target], target

    def _command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self._switch, sys.executable, "-m", "bench.flood", *words]

    @contextlib.contextmanager
    def under_way(self, kind: str, rate: int, seconds: float) -> Iterator[Callable[[], tuple[int, float]]]:
        """From its first packet. Yields what waits for its end, and tells packets sent and seconds."""
        words = self._command("recorded", self._port, self._source)
        macs, true = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.split()
        stream = frames(kind, bytes.fromhex(macs), self._source, self._target, bytes.fromhex(true))
        with tempfile.NamedTemporaryFile("w", suffix=".hex") as file:
            file.write("\n".join(frame.hex() for frame in stream))
            file.flush()
            words = self._command("flood", self._port, str(rate), str(seconds), file.name)
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                try:
                    if not process.stdout.readline():
                        raise LabError("the flood did not begin; what it complained of is above")
                    yield lambda: tuple(json.loads(process.communicate()[0]))
                finally:
                    process.kill()


def counted(node: str) -> dict[str, int]:
    """What it has counted of what it did not believe."""
    numbers = observe.status(node)["heartbeat"]
    mine = (name for name in numbers if name.startswith(("heartbeat_", "sync_")) and name not in _NOT_HOSTILE)
    return {name: numbers[name] for name in mine}


def more(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """By how much they have grown, those that have."""
    return {name: count - before[name] for name, count in after.items() if count > before[name]}


def _cpu_s(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a kind, in the lab that is up."""
    cluster = config.load(CONF)
    nodes = [node.name for node in cluster.nodes]
    active = next(node for node in nodes if observe.role(node) == "active")
    target = next(node for node in nodes if node != active)
    addresses = {node.name: str(node.address) for node in cluster.nodes}
    attack = Attack(cluster.cluster.name, addresses, active, target)
    hosts = json.loads(observe.lbctl("lab", "status", str(CONF), "--json"))["labs"][0]["hosts"]
    (pid,) = (p["pid"] for h in hosts if h["name"] == target for p in h["processes"] if p["service"] == "lbctl")
    at_s, used_s = time.monotonic(), _cpu_s(pid)
    time.sleep(given.seconds)
    idle = (_cpu_s(pid) - used_s) / (time.monotonic() - at_s)
    rows = []
    for kind in given.kind or KINDS:
        before, was = counted(target), {node: observe.status(node) for node in nodes}
        with attack.under_way(kind, given.rate, given.seconds) as end:
            used_s = _cpu_s(pid)
            sent, seconds = end()
            used_s = _cpu_s(pid) - used_s
        found = more(counted(target), before)
        now = {node: observe.status(node) for node in nodes}
        rows.append(
            {
                "kind": kind,
                "a second": round(sent / seconds),
                "counted %": round(100 * sum(found.values()) / sent, 1),
                "as": ", ".join(f"{name.removeprefix('heartbeat_')} {count}" for name, count in found.items()),
                "cpu": round(used_s / seconds, 2),
                "cpu before": round(idle, 2),
                "stalls": now[target]["heartbeat"]["stalls"] - was[target]["heartbeat"]["stalls"],
                "moved": ", ".join(n for n in nodes if now[n]["since"] != was[n]["since"]) or "-",
                "sync": now[target]["sync"]["state"],
            }
        )
        err.print(str(rows[-1]), markup=False)
    return rows


def main() -> None:
    """Entry point; `flood` and `recorded` are this program's own parts in the lab."""
    match sys.argv[1:]:
        case ["flood", port, rate, seconds, path]:
            return flood(port, int(rate), float(seconds), path)
        case ["recorded", interface, source]:
            return recorded(interface, source)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each kind")
    parser.add_argument("--rate", type=int, default=1_000_000, help="packets a second, if the machine makes them")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this; may be repeated")
    parser.add_argument("--json", type=Path, help="where to keep the numbers")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        observe.lbctl("lab", "up", str(CONF))
        try:
            observe.wait_until("the pair is whole", lambda: observe.is_settled("lb1", "lb2"), 60)
            rows = measure(given)
        finally:
            observe.lbctl("lab", "down", str(CONF))
    except LabError as error:
        err.print(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    load = os.getloadavg()[0]
    print_table(tuple(rows[0]), [tuple(row.values()) for row in rows], f"{given.seconds:g} s each, load {load:.1f}")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(rows, indent=1))
    sys.exit(any(row["moved"] != "-" or row["stalls"] or row["sync"] != "in-sync" for row in rows))


if __name__ == "__main__":
    main()
