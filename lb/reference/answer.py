"""ICMP errors of the director's own (bpf/answer.h). Pure."""

from __future__ import annotations

import struct

from lb import abi
from lb.reference.frame import LaterFragment, Packet
from lb.reference.maps import Maps
from lb.reference.vlan import skip_tags

ICMP_UNREACHABLE, PORT, TOO_BIG = 3, 3, 4
"""A type, and two codes of it. RFC 792; the next hop's MTU: RFC 1191 section 4."""

_ICMP = 1
_QUOTED = 8
_DONT_FRAGMENT = 0x4000
_TOS = 0xC0
_TTL = 64
_NO_HOSTS = ((0, 0), (127, 127), (224, 255))
"""First bytes of addresses that are not one host's: this network, loopback, multicast and all above."""


def checksum(data: bytes) -> int:
    """Of an even number of bytes, in which the field itself is 0. RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv4_header(protocol: int, source: int, destination: int, length: int, tos: int, identification: int) -> bytes:
    """Without options, of a packet that nobody may fragment. length: of the packet."""

    def header(check: int) -> bytes:
        return struct.pack(
            "!BBHHHBBHII",
            0x45, tos, length, identification, _DONT_FRAGMENT, _TTL, protocol, check, source, destination,
        )  # fmt: skip

    return header(checksum(header(0)))


def within_limit(maps: Maps, now_t: int) -> bool:
    """One more in this tick? It is counted. RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)."""
    tick, count = maps.answered
    if tick != now_t:
        count = 0
    if count >= abi.ANSWERS_A_TICK:
        return False
    maps.answered = now_t, count + 1
    return True


def answer(
    maps: Maps, frame: bytes, packet: Packet | LaterFragment, kind: int, code: int, mtu: int, now_t: int
) -> bytes | None:
    """What a packet's sender gets in its place, tags and all; None: nobody is to be told. RFC 1122 section 3.2.2.

    IPv6: lb.reference.answer6.
    """
    _, ip = skip_tags(frame)
    if isinstance(packet, LaterFragment) or packet.is_error or any(low <= ip[12] <= high for low, high in _NO_HOSTS):
        return None
    if not within_limit(maps, now_t):
        return None
    quoted = ip[: (ip[0] & 15) * 4 + _QUOTED]
    icmp = struct.pack("!BBHHH", kind, code, 0, 0, mtu) + quoted
    icmp = icmp[:2] + checksum(icmp).to_bytes(2, "big") + icmp[4:]
    header = ipv4_header(_ICMP, packet.key.virtual, packet.key.client, 20 + len(icmp), _TOS, 0)
    return frame[6:12] + frame[:6] + frame[12 : len(frame) - len(ip)] + header + icmp
