"""Packets by the thousand, made by the kernel itself: an XDP program whose every run's frame really leaves.

BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18, Documentation/bpf/bpf_prog_run.rst) hands frames to the
driver in batches; the program writes each one's client port and destination and notes the time twice.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.testrun import frame
from lb import bpf
from lb.datapath.headers import make_tree

SYN, ACK = 2, 16
BATCH = 64

_LIVE_FRAMES = 2
_TEST_RUN = 10

_TEXT = """
struct state {
	u64 sent, from, to, began_ns, ended_ns;
	u32 flows, first_port, ways, unused;
	u16 macs[8];
};
BPF_F_TABLE("array", u32, struct state, states, 1, BPF_F_MMAPABLE);

int generate(struct xdp_md *ctx)
{
	u8 *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u32 zero = 0, port;
	struct state *state = states.lookup(&zero);
	u16 *mac;

	if (!state || at + 60 > end)
		return XDP_DROP;
	if (state->sent == state->from)
		state->began_ns = bpf_ktime_get_ns();
	if (state->sent == state->to)
		state->ended_ns = bpf_ktime_get_ns();
	port = state->first_port + state->sent % state->flows;
	at[34] = port >> 8;
	at[35] = port;
	mac = &state->macs[(state->sent % state->ways & 1) * 4];
	((u16 *)at)[0] = mac[0];
	((u16 *)at)[1] = mac[1];
	((u16 *)at)[2] = mac[2];
	state->sent++;
	// Frames are used again, and the kernel puts right only the bounds that this program moved,
	// not those that the driver moved for a header of its own: so move one.
	bpf_xdp_adjust_tail(ctx, -1);
	return XDP_TX;
}

int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}
"""

_STATE = np.dtype(
    [(name, "u8") for name in ("sent", "from", "to", "began_ns", "ended_ns")]
    + [(name, "u4") for name in ("flows", "first_port", "ways", "unused")]
    + [("macs", "u2", (8,))]
)


class Generator:
    """Sends from the network namespace of the caller. client, virtual: IPv4 addresses; mac: of the interface."""

    def __init__(self, interface: str, client: str, virtual: str, mac: str) -> None:
        from bcc import BPF

        self._interface = socket.if_nametoindex(interface)
        self._client, self._virtual = (
            struct.unpack("!I", socket.inet_aton(address))[0] for address in (client, virtual)
        )
        self._mac = _packed(mac)
        with tempfile.TemporaryDirectory() as headers:
            flags = make_tree(Path(headers))
            os.environ["BCC_KERNEL_SOURCE"] = headers
            self._module = BPF(text=_TEXT.encode(), cflags=flags)
        self._fd = self._module.load_func(b"generate", BPF.XDP).fd
        # virtio_net takes frames from XDP only while it runs a program of its own.
        bpf.attach_xdp(self._module.load_func(b"pass", BPF.XDP).fd, self._interface, 0)
        self._state = bpf.Map(os.dup(self._module[b"states"].map_fd), np.dtype("u4"), _STATE).mapped()

    def send(self, count: int, flags: int, to: Sequence[str], flows: int, first_port: int) -> float:
        """Send TCP segments of `flows` clients, by turns to the MACs of `to`; the time that one took, ns.

        count: a multiple of BATCH. Between the end of the first and of the last batch, when all parts are at work.
        """
        self._state[0] = (0, BATCH, count - 1, 0, 0, flows, first_port, len(to), 0, [0] * 8)
        for number, mac in enumerate(to):
            self._state["macs"][0][4 * number : 4 * number + 3] = np.frombuffer(_packed(mac), "u2")
        data = frame(6, self._client, self._virtual, (first_port, 80), flags, _packed(to[0]) + self._mac)
        data = data[:24] + _sum(data[14:34]) + data[26:] + b"\0"  # the byte that the program cuts off
        buffer = ctypes.create_string_buffer(data, len(data))
        context = ctypes.create_string_buffer(struct.pack("<6I", 0, len(data), 0, self._interface, 0, 0), 24)
        attr = struct.pack(
            "<IIIIQQIIIIQQIIII",
            *(self._fd, 0, len(data), 0, ctypes.addressof(buffer), 0, count, 0),
            *(24, 0, ctypes.addressof(context), 0, _LIVE_FRAMES, 0, BATCH, 0),
        )
        bpf.call(_TEST_RUN, attr)
        state = self._state[0]
        return float(state["ended_ns"] - state["began_ns"]) / (count - 1 - BATCH)


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _sum(header: bytes) -> bytes:
    """The checksum of an IPv4 header whose own field is zero (RFC 1071)."""
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
