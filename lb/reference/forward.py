"""How a packet gets to its real (bpf/forward.h). Pure."""

from __future__ import annotations

from lb.reference.frame import Packet
from lb.reference.maps import Maps, Real
from lb.reference.stats import Outcome
from lb.reference.tunnel import forward_ipip


def forward_gate(frame: bytes, mac: bytes) -> bytes:
    """The real's MAC over ours, and ours, to which the frame was sent, as the sender's."""
    return mac + frame[:6] + frame[12:]


def forward(maps: Maps, frame: bytes, packet: Packet, real: Real, now_t: int) -> tuple[Outcome, bytes]:
    """The outcome, and the frame as it leaves. Only what gets to the real is counted for it."""
    destination = real.destination
    if destination.local:
        outcome = Outcome.PASSED
    elif destination.mac is None:
        outcome = Outcome.NO_NEIGHBOUR
    elif destination.tunnelled:
        outcome, frame = forward_ipip(maps, frame, packet, destination, now_t)
    else:
        outcome, frame = Outcome.TX, forward_gate(frame, destination.mac)
    if outcome in (Outcome.TX, Outcome.PASSED):
        real.packets += 1
        real.bytes += packet.length
    return outcome, frame
