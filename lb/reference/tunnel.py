"""A packet inside another one, to a real behind routers (bpf/tunnel.h). Pure."""

from __future__ import annotations

from lb.reference.answer import ICMP_UNREACHABLE, TOO_BIG, answer, ipv4_header
from lb.reference.frame import Packet, number
from lb.reference.maps import Maps
from lb.reference.stats import Outcome
from lb.reference.vlan import skip_tags
from lb.service import Destination

_IPV4 = b"\x08\x00"
"""An EtherType."""
_IPIP = 4
_OUTER_BYTES = 20


def forward_ipip(maps: Maps, frame: bytes, packet: Packet, real: Destination, now_t: int) -> tuple[Outcome, bytes]:
    """RFC 2003, with the inner's DSCP and ECN (RFC 6040). What is too big is answered, whether it came with DF or not.

    The frame leaves without tags, by the interface itself.
    Of a real whose MAC, and so its way, is known.
    """
    assert real.mac is not None
    assert real.way is not None
    length = packet.length + _OUTER_BYTES
    if length > real.way.mtu:
        answered = answer(maps, frame, packet, ICMP_UNREACHABLE, TOO_BIG, real.way.mtu - _OUTER_BYTES, now_t)
        return (Outcome.DROP_TOO_BIG, frame) if answered is None else (Outcome.TOO_BIG, answered)
    _, ip = skip_tags(frame)
    outer = ipv4_header(_IPIP, int(real.way.source), int(real.address), length, ip[1], number(ip, 4, 2))
    return Outcome.TX, real.mac + frame[:6] + _IPV4 + outer + ip
