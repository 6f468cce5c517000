"""A packet inside another one, to a real behind routers (bpf/tunnel.h). Pure."""

from __future__ import annotations

from lb.reference.answer import ipv4_header
from lb.reference.frame import LaterFragment, Packet, number
from lb.reference.maps import Configuration, Maps
from lb.reference.send import refuse_too_big, send
from lb.reference.stats import Outcome
from lb.reference.vlan import skip_tags
from lb.service import Destination

_IPV4 = b"\x08\x00"
"""An EtherType."""
_IPIP = 4
_OUTER_BYTES = 20


def forward_ipip(
    configuration: Configuration,
    maps: Maps,
    frame: bytes,
    packet: Packet | LaterFragment,
    real: Destination,
    now_t: int,
) -> tuple[Outcome, bytes]:
    """RFC 2003, with the inner's DSCP and ECN (RFC 6040). What is too big is answered, whether it came with DF or not.

    The frame leaves without tags, by the interface itself. Of a real whose MAC, and so its way, is known.
    """
    assert real.way is not None
    refused = refuse_too_big(maps, frame, packet, real, _OUTER_BYTES, now_t)
    if refused is not None:
        return refused
    _, ip = skip_tags(frame)
    length = packet.length + _OUTER_BYTES
    outer = ipv4_header(_IPIP, int(real.way.source), int(real.address), length, ip[1], number(ip, 4, 2))
    outcome, macs = send(configuration, real, frame[:6])
    return outcome, macs + _IPV4 + outer + ip
