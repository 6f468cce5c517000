"""How a packet gets to its real (bpf/forward.h). Pure."""

from __future__ import annotations

from lb.reference.frame import LaterFragment, Packet
from lb.reference.maps import Configuration, Maps, Real
from lb.reference.send import refuse_too_big, send
from lb.reference.stats import Outcome
from lb.reference.tunnel import forward_ipip
from lb.service import Destination


def forward_gate(
    configuration: Configuration,
    maps: Maps,
    frame: bytes,
    packet: Packet | LaterFragment,
    real: Destination,
    now_t: int,
) -> tuple[Outcome, bytes]:
    """The real's MAC over ours, and ours, to which the frame was sent, as the sender's.

    What is too big for another interface is answered.
    """
    refused = refuse_too_big(maps, frame, packet, real, 0, now_t) if configuration.others else None
    if refused is not None:
        return refused
    outcome, macs = send(configuration, real, frame[:6])
    return outcome, macs + frame[12:]


def forward(
    configuration: Configuration, maps: Maps, frame: bytes, packet: Packet | LaterFragment, real: Real, now_t: int
) -> tuple[Outcome, bytes]:
    """The outcome, and the frame as it leaves. Only what gets to the real is counted for it."""
    destination = real.destination
    if destination.local:
        outcome = Outcome.PASSED
    elif destination.mac is None:
        return Outcome.NO_NEIGHBOUR, frame
    else:
        method = forward_ipip if destination.tunnelled else forward_gate
        outcome, frame = method(configuration, maps, frame, packet, destination, now_t)
    if outcome in (Outcome.TX, Outcome.REDIRECTED, Outcome.PASSED):
        real.packets += 1
        real.bytes += packet.length
    return outcome, frame
