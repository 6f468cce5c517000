"""From a frame to a packet of a virtual (bpf/parse.h). Pure.

What is not a virtual's, or not sent to this host, is FOREIGN. VLAN tags and IPv6 are foreign for now.
"""

from __future__ import annotations

from dataclasses import dataclass

from lb.reference.maps import Configuration, ConnectionKey
from lb.reference.stats import Outcome
from lb.service import PROTOCOL_NUMBERS

ETHERNET_BYTES = 14
ETHERTYPE_IPV4 = 0x0800
TCP = PROTOCOL_NUMBERS["tcp"]

_IPV4_BYTES = 20
_TCP_BYTES = 20
_UDP_BYTES = 8
_FRAGMENT = 0x3FFF
"""More fragments, or an offset. RFC 791 section 3.1."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Of a virtual. length: IPv4's total length; tcp_flags: 0 for a datagram."""

    key: ConnectionKey
    tcp_flags: int
    length: int


def number(data: bytes, at: int, size: int) -> int:
    """A field in wire order."""
    return int.from_bytes(data[at : at + size], "big")


def parse_ipv4(configuration: Configuration, frame: bytes) -> Packet | Outcome:
    """The packet in a frame of type IPv4. RFC 791 section 3.1."""
    ip = frame[ETHERNET_BYTES:]
    if len(ip) < _IPV4_BYTES:
        return Outcome.FOREIGN  # too short to say whose it is
    virtual, protocol = number(ip, 16, 4), ip[9]
    if (virtual, protocol) not in configuration.served or frame[:6] != configuration.mac:
        return Outcome.FOREIGN
    version, header, length = ip[0] >> 4, (ip[0] & 15) * 4, number(ip, 2, 2)
    if version != 4 or not _IPV4_BYTES <= header <= length <= len(ip):
        return Outcome.MALFORMED
    if number(ip, 6, 2) & _FRAGMENT:
        return Outcome.FRAGMENT
    data = ip[header:length]
    if not (_is_segment(data) if protocol == TCP else _is_datagram(data)):
        return Outcome.MALFORMED
    key = ConnectionKey(number(ip, 12, 4), virtual, number(data, 0, 2), number(data, 2, 2), protocol)
    return Packet(key, data[13] if protocol == TCP else 0, length)


def _is_segment(data: bytes) -> bool:
    """RFC 9293 section 3.1: the header's length, in words, is in the upper half of byte 12."""
    return len(data) >= _TCP_BYTES and _TCP_BYTES <= (data[12] >> 4) * 4 <= len(data)


def _is_datagram(data: bytes) -> bool:
    """RFC 768."""
    return len(data) >= _UDP_BYTES and _UDP_BYTES <= number(data, 4, 2) <= len(data)
