"""From a frame to a packet of a virtual (bpf/parse.h). Pure.

What is not a virtual's, or not sent to this host, is FOREIGN. IPv6: lb.reference.parse6.
"""

from __future__ import annotations

from lb.reference.frame import First, LaterFragment, NotFirst, Packet, number
from lb.reference.icmp import parse_icmp
from lb.reference.maps import Configuration, ConnectionKey, DatagramKey
from lb.reference.service import ICMP, TCP, is_ours
from lb.reference.stats import Outcome, Undecided

ETHERTYPE_IPV4 = 0x0800

_IPV4_BYTES = 20
_TCP_BYTES = 20
_UDP_BYTES = 8
_MORE_FRAGMENTS = 0x2000
_OFFSET = 0x1FFF
"""RFC 791 section 3.1."""


def parse_ipv4(configuration: Configuration, destination: bytes, ip: bytes) -> First | NotFirst:
    """The packet in a frame of type IPv4. destination: the MAC it was sent to. RFC 791 section 3.1."""
    if len(ip) < _IPV4_BYTES:
        return Outcome.FOREIGN  # too short to say whose it is
    virtual, protocol = number(ip, 16, 4), ip[9]
    if not is_ours(configuration, virtual, protocol) or not configuration.is_sent_to_us(destination):
        return Outcome.FOREIGN
    version, header, length = ip[0] >> 4, (ip[0] & 15) * 4, number(ip, 2, 2)
    if version != 4 or not _IPV4_BYTES <= header <= length <= len(ip):
        return Outcome.MALFORMED
    client, pieces, data = number(ip, 12, 4), number(ip, 6, 2) & (_MORE_FRAGMENTS | _OFFSET), ip[header:length]
    if protocol == ICMP:
        return Undecided.FOR_KERNEL if pieces else parse_icmp(configuration, virtual, data, length)
    datagram = DatagramKey(client, virtual, number(ip, 4, 2), protocol)
    if pieces & _OFFSET:
        return LaterFragment(datagram, (pieces & _OFFSET) * 8, length)
    packet = parse_transport(client, virtual, protocol, data, length, whole=not pieces)
    return First(datagram, len(data), packet) if pieces else packet


def parse_transport(
    client: int, virtual: int, protocol: int, data: bytes, length: int, whole: bool
) -> Packet | Outcome:
    """The packet, from what the IP header says and from the bytes behind it. whole: else it is the first fragment."""
    if not (_is_segment(data) if protocol == TCP else _is_datagram(data, whole)):
        return Outcome.MALFORMED
    key = ConnectionKey(client, virtual, number(data, 0, 2), number(data, 2, 2), protocol)
    return Packet(key, data[13] if protocol == TCP else 0, length)


def _is_segment(data: bytes) -> bool:
    """RFC 9293 section 3.1: the header's length, in words, is in the upper half of byte 12."""
    return len(data) >= _TCP_BYTES and _TCP_BYTES <= (data[12] >> 4) * 4 <= len(data)


def _is_datagram(data: bytes, whole: bool) -> bool:
    """RFC 768. whole: else there is more of it in other fragments."""
    return len(data) >= _UDP_BYTES and _UDP_BYTES <= number(data, 4, 2) <= (len(data) if whole else 0xFFFF)
