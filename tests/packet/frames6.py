"""The IPv6 part of tests.packet.frames: headers, extension headers, neighbour discovery. Addresses as the reference
numbers them."""

from __future__ import annotations

import struct

from lb.reference.maps import IPV6

ICMPV6 = 58
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
ETHERTYPE = b"\x86\xdd"
_GROUP = IPV6 | 0xFF02_0000_0000_0000_0000_0001_FF00_0000
"""Of solicited nodes; the last three bytes are the address's."""

Extension = tuple[int, int, int]
"""Which extension header, its second byte, and its fourth."""


def packet(source: int, destination: int, protocol: int, data: bytes, extensions: tuple[Extension, ...] = ()) -> bytes:
    """IPv6 with these extension headers before the data."""
    for kind, second, fourth in reversed(extensions):
        size = 8 if kind == FRAGMENT else 8 + 8 * second
        data = bytes((protocol, second, 0, fourth)).ljust(size, b"\x01") + data
        protocol = kind
    return _header(source, destination, protocol, data, 64) + data


def fragment(source: int, destination: int, said: int, part: bytes, number: int, field: int) -> bytes:
    """IPv6 with a fragment header. said: what the datagram begins with; number: its identification; field: offset in
    bytes, and 1 if more follow."""
    data = struct.pack("!BBHI", said, 0, field, number) + part
    return _header(source, destination, FRAGMENT, data, 64) + data


def _header(source: int, destination: int, protocol: int, data: bytes, hops: int) -> bytes:
    addresses = ((number & ~IPV6).to_bytes(16, "big") for number in (source, destination))
    return struct.pack("!IHBB", 6 << 28, len(data) & 0xFFFF, protocol, hops) + b"".join(addresses)


def nd(sender: int, asked: int, mac: bytes, operation: int) -> bytes:
    """A whole frame from `mac`. Operations as ARP has them: 1 solicits, 2 advertises."""
    kind = {1: 135, 2: 136}.get(operation, operation & 0xFF)
    body = bytes((kind, 0, 0, 0, 0, 0, 0, 0)) + (asked & ~IPV6).to_bytes(16, "big")
    body += bytes((1 if operation == 1 else 2, 1)) + mac
    group = bytes.fromhex("3333ff") + (asked & 0xFFFFFF).to_bytes(3, "big")
    return group + mac + ETHERTYPE + _header(sender, _GROUP | asked & 0xFFFFFF, ICMPV6, body, 255) + body
