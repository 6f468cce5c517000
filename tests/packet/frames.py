"""Frames as bytes, from named parts of which any may be odd. Made by struct: Hypothesis asks for a hundred thousand."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lb.reference.maps import IPV6
from tests.packet import frames6
from tests.packet.frames6 import ICMPV6, Extension

TCP, UDP, ICMP = 6, 17, 1
CLIENT_MAC = bytes.fromhex("020000000002")
IP_AT = 14
PAYLOAD = bytes(1 + n % 64 for n in range(1_440))


@dataclass(frozen=True, slots=True)
class Ends:
    """Addresses (as `lb.reference.maps` numbers them) and ports. destination: the MAC it is sent to."""

    destination: bytes
    client: int
    virtual: int
    client_port: int
    virtual_port: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Shape:
    """The rest of a packet. ip_words: of IP options; tcp_words: of TCP's; fragment: the field of RFC 791 with flags;
    id: the identification; payload, padding: bytes within the packet, and after it.
    extensions: of IPv6."""

    flags: int = 0x02
    ip_words: int = 0
    tcp_words: int = 0
    fragment: int = 0
    id: int = 1
    payload: int = 7
    padding: int = 0
    extensions: tuple[Extension, ...] = ()


PLAIN = Shape()


def packet(ends: Ends, shape: Shape = PLAIN) -> bytes:
    """A frame that contradicts itself nowhere. Checksums are 0: the packet path neither reads nor changes them."""
    payload = PAYLOAD[: shape.payload]
    ports = struct.pack("!HH", ends.client_port, ends.virtual_port)
    if ends.protocol == TCP:
        offset = (5 + shape.tcp_words) << 4
        inner = ports + struct.pack("!IIBBHHH", 1, 0, offset, shape.flags, 512, 0, 0) + b"\x01" * 4 * shape.tcp_words
    elif ends.protocol == UDP:
        inner = ports + struct.pack("!HH", 8 + len(payload), 0)
    else:
        inner = ports + bytes(4)
    if ends.virtual & IPV6:
        return _in_ipv6(ends, shape, inner + payload)
    header = 20 + 4 * shape.ip_words
    ip = struct.pack(
        "!BBHHHBBHII",
        0x40 | header // 4, 0, header + len(inner) + len(payload), shape.id, shape.fragment, 64, ends.protocol, 0,
        ends.client, ends.virtual,
    )  # fmt: skip
    ethernet = ends.destination + CLIENT_MAC + b"\x08\x00"
    return ethernet + ip + b"\x01" * 4 * shape.ip_words + inner + payload + bytes(shape.padding)


def _in_ipv6(ends: Ends, shape: Shape, data: bytes) -> bytes:
    ip = frames6.packet(ends.client, ends.virtual, ends.protocol, data, shape.extensions)
    return ends.destination + CLIENT_MAC + frames6.ETHERTYPE + ip + bytes(shape.padding)


def fragments(ends: Ends, shape: Shape, number: int, piece: int, overlap: int = 0) -> Iterator[bytes]:
    """A datagram (or segment) of so many pieces; each of `piece` times eight bytes, the last one of what remains.

    overlap: the later ones begin so many times eight bytes too early. IPv6's extension headers are in the datagram.
    """
    ipv6 = bool(ends.virtual & IPV6)
    header = IP_AT + (40 if ipv6 else 20 + 4 * shape.ip_words)
    whole = packet(ends, replace(shape, padding=0))
    data = whole[header:].ljust(8 * piece * number, b"x")
    for place in range(number):
        unit, more = max(0, piece * place - overlap), place + 1 < number
        part = data[8 * unit : 8 * (unit + piece)] if more else data[8 * unit :]
        if ipv6:
            ip = frames6.fragment(ends.client, ends.virtual, whole[IP_AT + 6], part, shape.id, 8 * unit | more)
            yield whole[:IP_AT] + ip + bytes(shape.padding)
            continue
        frame = packet(ends, replace(shape, fragment=more << 13 | unit, padding=0))[:header]
        length = header - IP_AT + len(part)
        yield frame[: IP_AT + 2] + struct.pack("!H", length) + frame[IP_AT + 4 :] + part + bytes(shape.padding)


def question(ends: Ends, operation: int = 1, padding: int = 18) -> bytes:
    """An ARP request (or answer) for the virtual address, or the same of neighbour discovery."""
    if ends.virtual & IPV6:
        return frames6.nd(ends.client, ends.virtual, CLIENT_MAC, operation) + bytes(padding)
    ethernet = (b"\xff" * 6 if operation == 1 else ends.destination) + CLIENT_MAC + b"\x08\x06"
    arp = struct.pack("!HHBBH6sI6sI", 1, 0x0800, 6, 4, operation, CLIENT_MAC, ends.client, bytes(6), ends.virtual)
    return ethernet + arp + bytes(padding)


def claim(sender: Ends, asked: Ends, mac: bytes, operation: int) -> bytes:
    """ARP, from `mac`, which says that the sender's virtual address is there, and asks for another's.

    Of IPv6: neighbour discovery, which says the one or asks for the other.
    """
    if sender.virtual & IPV6:
        asks = operation == 1 and asked.virtual & IPV6
        return frames6.nd(sender.virtual, asked.virtual if asks else sender.virtual, mac, operation)
    arp = struct.pack(
        "!HHBBH6sI6sI", 1, 0x0800, 6, 4, operation, mac, sender.virtual, bytes(6), asked.virtual & 0xFFFF_FFFF
    )
    return b"\xff" * 6 + mac + b"\x08\x06" + arp + bytes(18)


def tagged(frame: bytes, *ethertypes: int) -> bytes:
    """With these VLAN tags, the first one outermost."""
    tags = b"".join(struct.pack("!HH", ethertype, 5 + place) for place, ethertype in enumerate(ethertypes))
    return frame[:12] + tags + frame[12:]


def error(ends: Ends, shape: Shape, kind: int, code: int, router: int, quoted: int) -> bytes:
    """ICMP from a router, about a packet of that shape from the virtual to the client.

    quoted: how many bytes behind that packet's IP header come along.
    """
    turned = replace(
        ends,
        client=ends.virtual,
        virtual=ends.client,
        client_port=ends.virtual_port,
        virtual_port=ends.client_port,
    )
    header = 40 if ends.virtual & IPV6 else 20 + 4 * shape.ip_words
    about = packet(turned, shape)[IP_AT:][: header + quoted]
    return icmp(replace(ends, client=router), struct.pack("!BBHI", kind, code, 0, 1400) + about)


def icmp(ends: Ends, data: bytes, shape: Shape = PLAIN) -> bytes:
    """ICMP to the virtual address, in a packet of that shape, whose own payload is left out."""
    if ends.virtual & IPV6:
        return _in_ipv6(replace(ends, protocol=ICMPV6), shape, data)
    empty = packet(replace(ends, protocol=ICMP), replace(shape, payload=0, padding=0))[
        : IP_AT + 20 + 4 * shape.ip_words
    ]
    length = len(empty) - IP_AT + len(data)
    return empty[: IP_AT + 2] + struct.pack("!H", length) + empty[IP_AT + 4 :] + data + bytes(shape.padding)


def in_ipv6(ends: Ends, shape: Shape = PLAIN) -> bytes:
    """The same segment between IPv6 addresses that end in those of `ends`."""
    client, virtual = (number & 0xFFFF_FFFF | IPV6 for number in (ends.client, ends.virtual))
    return packet(replace(ends, client=client, virtual=virtual), shape)


def edited(frame: bytes, edits: tuple[tuple[int, int], ...]) -> bytes:
    """With other bytes at some offsets, taken modulo its length."""
    changed = bytearray(frame)
    for at, value in edits:
        changed[at % len(frame)] = value
    return bytes(changed)


def cuts(frame: bytes) -> Iterator[bytes]:
    """Cut off everywhere; 14 bytes are the least that the kernel takes."""
    return (frame[:length] for length in range(IP_AT, len(frame) + 1))


def lengths(frame: bytes) -> Iterator[bytes]:
    """Each field that says how long something is, with every value that might just do."""
    if frame[12:14] == b"\x86\xdd":
        yield from _lengths6(frame)
        return
    room = len(frame) - IP_AT
    for nibble in range(16):
        yield edited(frame, ((IP_AT, 0x40 | nibble),))
        yield edited(frame, ((IP_AT, nibble << 4 | frame[IP_AT] & 15),))
    inner = IP_AT + 4 * (frame[IP_AT] & 15)
    for value in (*range(room + 3), 0x7FFF, 0x8000, 0xFFFF):
        high, low = divmod(value, 256)
        yield edited(frame, ((IP_AT + 2, high), (IP_AT + 3, low)))
        yield edited(frame, ((inner + 4, high), (inner + 5, low)))
    for value in range(16):
        yield edited(frame, ((inner + 12, value << 4),))


def _lengths6(frame: bytes) -> Iterator[bytes]:
    inner = IP_AT + 40
    for nibble in range(16):
        yield edited(frame, ((IP_AT, nibble << 4),))
    for value in (*range(len(frame) - inner + 3), 0x7FFF, 0x8000, 0xFFFF):
        high, low = divmod(value, 256)
        yield edited(frame, ((IP_AT + 4, high), (IP_AT + 5, low)))
        yield edited(frame, ((inner + 4, high), (inner + 5, low)))
    for value in (*range(16), 255):
        yield edited(frame, ((inner + 1, value),))
        yield edited(frame, ((inner + 12, value << 4 & 0xFF),))
    for value in (0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 135):
        yield edited(frame, ((IP_AT + 6, value),))
        yield edited(frame, ((inner, value),))


def flips(frame: bytes, mask: int) -> Iterator[bytes]:
    """One byte after the other changed by the same bits."""
    return (edited(frame, ((at, byte ^ mask),)) for at, byte in enumerate(frame))
