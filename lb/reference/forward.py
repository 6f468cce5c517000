"""How a packet gets to its real (bpf/forward.h). Pure."""

from __future__ import annotations

from lb.reference.maps import Real
from lb.reference.stats import Outcome


def forward_gate(frame: bytes, mac: bytes) -> bytes:
    """The real's MAC over ours, and ours, to which the frame was sent, as the sender's."""
    return mac + frame[:6] + frame[12:]


def forward(frame: bytes, length: int, real: Real) -> tuple[Outcome, bytes]:
    """The outcome, and the frame as it leaves. Only what gets to the real is counted for it."""
    if real.destination.local:
        outcome = Outcome.PASSED
    elif real.destination.mac is not None:
        outcome, frame = Outcome.TX, forward_gate(frame, real.destination.mac)
    else:
        return Outcome.NO_NEIGHBOUR, frame
    real.packets += 1
    real.bytes += length
    return outcome, frame
