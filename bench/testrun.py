"""Nanoseconds a packet of an XDP program, by BPF_PROG_TEST_RUN.

Plain `repeat` would time the wrong path: the kernel hands the program the same buffer again, with what the program did
to it, so that a balancer's second packet is one that it has forwarded already. Here the program that is repeated is a
trampoline: it writes the next of many frames over the buffer and tail-calls the program under test. Every run sees a
fresh frame, consecutive frames are of different flows, and the trampoline's own cost, measured in the same way with a
program that does nothing, is subtracted. The clock is read in the first and in the last run only.

What a program puts in front of the frame is taken off again before the next run (`grows`), by a call whose cost is the
trampoline's and is subtracted, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lb import bpf
from lb.datapath.headers import make_tree

BASE_PACKETS = 100_000

_TEXT = """
struct frame { u64 words[WORDS]; };
struct run { u64 next, done, last, began_ns, ended_ns; };
BPF_F_TABLE("array", u32, struct frame, frames, COUNT, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct run, runs, 1, BPF_F_MMAPABLE);
BPF_TABLE("prog", u32, u32, target, 1);

int trampoline(struct xdp_md *ctx)
{
	u64 *to, *end;
	u32 zero = 0, at;
	struct run *run = runs.lookup(&zero);
	struct frame *frame;
	int i;

	if (!run)
		return XDP_ABORTED;
	if (GROWS && bpf_xdp_adjust_head(ctx, (int)((long)ctx->data_end - (long)ctx->data) - 8 * WORDS))
		return XDP_ABORTED;
	to = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (run->done == 0)
		run->began_ns = bpf_ktime_get_ns();
	if (run->done == run->last)
		run->ended_ns = bpf_ktime_get_ns();
	at = run->next;
	frame = frames.lookup(&at);
	if (!frame || to + WORDS > end)
		return XDP_ABORTED;
	run->next = at + 1 < COUNT ? at + 1 : 0;
	run->done++;
#pragma unroll
	for (i = 0; i < WORDS; i++)
		to[i] = frame->words[i];
	target.call(ctx, 0);
	return XDP_ABORTED;
}

int nothing(struct xdp_md *ctx)
{
	return XDP_TX;
}

int macswap(struct xdp_md *ctx)
{
	u16 *mac = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int i;

	if (mac + 6 > end)
		return XDP_DROP;
#pragma unroll
	for (i = 0; i < 3; i++) {
		u16 one = mac[i];

		mac[i] = mac[i + 3];
		mac[i + 3] = one;
	}
	return XDP_TX;
}
"""


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No other process takes our core meanwhile; the caches are shared all the same."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


class TestRun:
    """Frames to send again and again, in order. They are padded to one length, a multiple of 8 bytes.

    grows: the program puts something in front of them. frames: their bytes, which may be changed between runs.
    """

    __test__ = False  # no class of tests, whatever pytest thinks of its name

    def __init__(self, frames: Sequence[bytes], grows: bool = False) -> None:
        size = -(-max(map(len, frames)) // 8) * 8
        from bcc import BPF

        with tempfile.TemporaryDirectory() as headers:
            flags = make_tree(Path(headers))
            os.environ["BCC_KERNEL_SOURCE"] = headers
            constants = [f"-DCOUNT={len(frames)}", f"-DWORDS={size // 8}", f"-DGROWS={int(grows)}"]
            self._module = BPF(text=_TEXT.encode(), cflags=[*flags, *constants])
        names = ("trampoline", "nothing", "macswap")
        self._fds = {name: self._module.load_func(name.encode(), BPF.XDP).fd for name in names}
        self._frame = frames[0].ljust(size, b"\0")
        pool = bpf.Map(self._dup("frames"), np.dtype("u4"), np.dtype((np.void, size)))
        self.frames: Any = pool.mapped()
        self.frames[:] = np.frombuffer(b"".join(frame.ljust(size, b"\0") for frame in frames), pool.value)
        words = [(name, "u8") for name in ("next", "done", "last", "began_ns", "ended_ns")]
        state = bpf.Map(self._dup("runs"), np.dtype("u4"), np.dtype(words))
        self._state = state.mapped()
        for opened in (pool, state):
            opened.close()
        self.count = len(frames)

    @property
    def floor_fd(self) -> int:
        """A program that swaps the two MACs and sends the frame out: what any balancer must do."""
        fd: int = self._fds["macswap"]
        return fd

    def gross_ns(self, program_fd: int, packets: int) -> float:
        """Of one packet, trampoline and all; goes on with the frame after the last one sent."""
        self._module[b"target"][ctypes.c_int(0)] = ctypes.c_int(program_fd)
        self._state["done"], self._state["last"] = 0, packets - 1
        with undisturbed():
            verdict, _, _ = bpf.run_program(self._fds["trampoline"], self._frame, packets)
        if verdict == 0 or self._state["done"][0] != packets:
            raise RuntimeError(f"{self._state['done'][0]} of {packets} frames could be sent, last verdict {verdict}")
        return float(self._state["ended_ns"][0] - self._state["began_ns"][0]) / (packets - 1)

    @property
    def ended_s(self) -> float:
        """When the last frame was about to be sent, of CLOCK_MONOTONIC."""
        return float(self._state["ended_ns"][0]) / 1e9

    def rewind(self) -> None:
        """Go on with the first frame."""
        self._state["next"] = 0

    def net_ns(self, program_fd: int, packets: int) -> float:
        """Of one packet in the program alone. The trampoline is measured just before and just after it."""
        before = self.gross_ns(self._fds["nothing"], BASE_PACKETS)
        gross = self.gross_ns(program_fd, packets)
        after = self.gross_ns(self._fds["nothing"], BASE_PACKETS)
        return gross - (before + after) / 2

    def close(self) -> None:
        """Give everything back."""
        self._module.cleanup()

    def _dup(self, name: str) -> int:
        fd: int = self._module[name.encode()].map_fd
        return os.dup(fd)


def frame(protocol: int, client: int, virtual: int, ports: tuple[int, int], flags: int, macs: bytes) -> bytes:
    """60 bytes of Ethernet, IPv4 and TCP or UDP, zero where nobody looks (checksums); macs: destination and source."""
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 46, 0, 0x4000, 64, protocol, 0, client, virtual)
    if protocol == 6:
        l4 = struct.pack("!HHIIBBHHH", *ports, 1, 1, 0x50, flags, 65_535, 0, 0)
    else:
        l4 = struct.pack("!HHHH", *ports, 26, 0)
    return (macs + b"\x08\0" + ip + l4).ljust(60, b"\0")


def frame6(protocol: int, client: int, virtual: int, ports: tuple[int, int], flags: int, macs: bytes) -> bytes:
    """The same segment or datagram in IPv6."""
    inner = frame(protocol, 0, 0, ports, flags, macs)[34:]
    addresses = client.to_bytes(16, "big") + virtual.to_bytes(16, "big")
    return macs + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(inner), protocol, 64) + addresses + inner


def flows(
    count: int,
    protocol: int,
    virtual: int,
    port: int,
    flags: int,
    macs: bytes,
    first_client: int = 0x0A000001,
    frame: Callable[[int, int, int, tuple[int, int], int, bytes], bytes] = frame,
) -> list[bytes]:
    """Frames of so many flows in a scattered order: 50,000 client ports, then the next client."""
    order: Any = np.random.default_rng(count).permutation(count).tolist()
    return [
        frame(protocol, first_client + n // 50_000, virtual, (1024 + n * 7919 % 50_000, port), flags, macs)
        for n in order
    ]
