"""ICMPv6 errors of the director's own (bpf/answer6.h). Pure."""

from __future__ import annotations

import struct

from lb.reference.answer import checksum, within_limit
from lb.reference.frame import IPV6_BYTES, Packet, number
from lb.reference.maps import Maps
from lb.reference.vlan import skip_tags

LEAST_MTU = 1280
"""What every link carries (RFC 8200 section 5), and so the most that an answer has (RFC 4443 section 2.4)."""
UNREACHABLE6, PORT6, TOO_BIG6 = 1, 4, 2
"""A type, a code of it, and another type. RFC 4443 sections 3.1 and 3.2."""

_ICMPV6 = 58
_HOPS = 64
_ICMP_BYTES = 8


def ipv6_header(first_word: int, protocol: int, source: bytes, destination: bytes, length: int) -> bytes:
    """first_word: version, traffic class and flow label. length: of what follows."""
    return struct.pack("!IHBB", first_word, length, protocol, _HOPS) + source + destination


def _is_one_host(address: int) -> bool:
    return address not in (0, 1) and address >> 120 != 0xFF


def answer6(maps: Maps, frame: bytes, packet: Packet, kind: int, code: int, mtu: int, now_t: int) -> bytes | None:
    """What a packet's sender gets in its place, tags and all; None: nobody is to be told. RFC 4443 section 2.4 (e).

    mtu: of "packet too big", 0 in others.
    """
    _, ip = skip_tags(frame)
    client, virtual = ip[8:24], ip[24:40]
    if packet.is_error or not _is_one_host(number(ip, 8, 16)) or not within_limit(maps, now_t):
        return None
    quoted = ip[: min(packet.length, LEAST_MTU - IPV6_BYTES - _ICMP_BYTES)]
    icmp = struct.pack("!BBHI", kind, code, 0, mtu) + quoted
    pseudo = virtual + client + struct.pack("!II", len(icmp), _ICMPV6)
    icmp = icmp[:2] + checksum(pseudo + icmp + bytes(len(icmp) % 2)).to_bytes(2, "big") + icmp[4:]
    header = ipv6_header(6 << 28, _ICMPV6, virtual, client, len(icmp))
    return frame[6:12] + frame[:6] + frame[12 : len(frame) - len(ip)] + header + icmp
