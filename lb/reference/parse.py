"""From a frame to a packet of a virtual (bpf/parse.h). Pure.

What is not a virtual's, or not sent to this host, is FOREIGN. IPv6: lb.reference.parse6.
"""

from __future__ import annotations

from lb.reference.frame import Packet, number
from lb.reference.icmp import parse_icmp
from lb.reference.maps import Configuration, ConnectionKey
from lb.reference.service import ICMP, TCP, is_ours
from lb.reference.stats import Outcome, Undecided

ETHERTYPE_IPV4 = 0x0800

_IPV4_BYTES = 20
_TCP_BYTES = 20
_UDP_BYTES = 8
_FRAGMENT = 0x3FFF
"""More fragments, or an offset. RFC 791 section 3.1."""


def parse_ipv4(configuration: Configuration, destination: bytes, ip: bytes) -> Packet | Outcome | Undecided:
    """The packet in a frame of type IPv4. destination: the MAC it was sent to. RFC 791 section 3.1."""
    if len(ip) < _IPV4_BYTES:
        return Outcome.FOREIGN  # too short to say whose it is
    virtual, protocol = number(ip, 16, 4), ip[9]
    if not is_ours(configuration, virtual, protocol) or destination not in configuration.macs:
        return Outcome.FOREIGN
    version, header, length = ip[0] >> 4, (ip[0] & 15) * 4, number(ip, 2, 2)
    if version != 4 or not _IPV4_BYTES <= header <= length <= len(ip):
        return Outcome.MALFORMED
    if number(ip, 6, 2) & _FRAGMENT:
        return Undecided.FOR_KERNEL if protocol == ICMP else Outcome.FRAGMENT
    data = ip[header:length]
    if protocol == ICMP:
        return parse_icmp(configuration, virtual, data, length)
    return parse_transport(number(ip, 12, 4), virtual, protocol, data, length)


def parse_transport(client: int, virtual: int, protocol: int, data: bytes, length: int) -> Packet | Outcome:
    """The packet, from what the IP header says and from the bytes behind it."""
    if not (_is_segment(data) if protocol == TCP else _is_datagram(data)):
        return Outcome.MALFORMED
    key = ConnectionKey(client, virtual, number(data, 0, 2), number(data, 2, 2), protocol)
    return Packet(key, data[13] if protocol == TCP else 0, length)


def _is_segment(data: bytes) -> bool:
    """RFC 9293 section 3.1: the header's length, in words, is in the upper half of byte 12."""
    return len(data) >= _TCP_BYTES and _TCP_BYTES <= (data[12] >> 4) * 4 <= len(data)


def _is_datagram(data: bytes) -> bool:
    """RFC 768."""
    return len(data) >= _UDP_BYTES and _UDP_BYTES <= number(data, 4, 2) <= len(data)
