"""A packet inside another one, to a real behind routers (bpf/tunnel.h). Pure."""

from __future__ import annotations

from lb.addresses import Address
from lb.reference.answer import ipv4_header
from lb.reference.answer6 import ipv6_header
from lb.reference.frame import IPV6_BYTES, LaterFragment, Packet, number
from lb.reference.maps import Configuration, Maps
from lb.reference.send import refuse_too_big, send
from lb.reference.stats import Outcome
from lb.reference.vlan import skip_tags
from lb.service import Destination

_ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
_PROTOCOLS = {4: 4, 6: 41}
"""What follows the outer header, by the inner packet's IP version."""
_IPV4_BYTES = 20


def forward_ipip(
    configuration: Configuration,
    maps: Maps,
    frame: bytes,
    packet: Packet | LaterFragment,
    real: Destination,
    now_t: int,
) -> tuple[Outcome, bytes]:
    """RFC 2003 and 2473, with the inner's DSCP and ECN (RFC 6040). What is too big is answered, with DF or without.

    The outer packet is of the real's family. The frame leaves without tags, by the interface itself. Of a real whose
    MAC, and so its way, is known.
    """
    assert real.way is not None
    version = real.address.version
    refused = refuse_too_big(maps, frame, packet, real, _IPV4_BYTES if version == 4 else IPV6_BYTES, now_t)
    if refused is not None:
        return refused
    _, ip = skip_tags(frame)
    header = _outer4 if version == 4 else _outer6
    outcome, macs = send(configuration, real, frame[:6])
    return outcome, macs + _ETHERTYPES[version] + header(ip, real.way.source, real.address, packet.length) + ip


def _outer4(ip: bytes, source: Address, destination: Address, length: int) -> bytes:
    """length: of the inner packet. One of IPv6 has no identification."""
    version, identification = ip[0] >> 4, number(ip, 4, 2)
    if version == 6:
        identification = 0
    tos = _traffic_class(ip)
    return ipv4_header(_PROTOCOLS[version], int(source), int(destination), length + _IPV4_BYTES, tos, identification)


def _outer6(ip: bytes, source: Address, destination: Address, length: int) -> bytes:
    """With the inner's flow label, so that routers that spread flows over ways know them (RFC 6438); IPv4 has none."""
    version = ip[0] >> 4
    first = number(ip, 0, 4) if version == 6 else 6 << 28 | _traffic_class(ip) << 20
    return ipv6_header(first, _PROTOCOLS[version], source.packed, destination.packed, length)


def _traffic_class(ip: bytes) -> int:
    """DSCP and ECN."""
    return ip[1] if ip[0] >> 4 == 4 else number(ip, 0, 2) >> 4 & 0xFF
