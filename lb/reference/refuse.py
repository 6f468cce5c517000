"""A connection that nobody can take (bpf/refuse.h). Pure."""

from __future__ import annotations

from lb import abi
from lb.reference.answer import ICMP_UNREACHABLE, PORT, answer
from lb.reference.answer6 import PORT6, UNREACHABLE6, answer6
from lb.reference.frame import Packet
from lb.reference.lease import lease_is_fresh
from lb.reference.maps import IPV6, Maps
from lb.reference.stats import Outcome


def refuse(maps: Maps, frame: bytes, packet: Packet, now_ns: int) -> tuple[Outcome, bytes]:
    """The client of the packet that opens it is told, while we may speak for the address."""
    answered = None
    if lease_is_fresh(maps, now_ns):
        if packet.key.virtual & IPV6:
            answered = answer6(maps, frame, packet, UNREACHABLE6, PORT6, 0, abi.tick(now_ns))
        else:
            answered = answer(maps, frame, packet, ICMP_UNREACHABLE, PORT, 0, abi.tick(now_ns))
    return (Outcome.NO_REAL, frame) if answered is None else (Outcome.UNREACHABLE, answered)
