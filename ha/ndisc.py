"""Neighbour discovery (RFC 4861) in frames of Ethernet: what a takeover says, what a search for rivals hears. Pure."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final, NamedTuple

ETHERTYPE: Final = 0x86DD
SOLICITATION: Final = 135
ADVERTISEMENT: Final = 136

_ICMPV6: Final = 58
_HOP_LIMIT: Final = 255
_OVERRIDE: Final = 0x2000_0000
_SOURCE_MAC, _TARGET_MAC = 1, 2
_ALL_NODES: Final = IPv6Address("ff02::1")
_SOLICITED: Final = int(IPv6Address("ff02::1:ff00:0"))
_HEADERS: Final = struct.Struct("!6s6sHIHBB16s16s")
_MESSAGE: Final = struct.Struct("!BBHI16s")


class Claim(NamedTuple):
    """Somebody says that he has an address; mac: where his frame comes from."""

    address: IPv6Address
    mac: bytes


def advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """An unsolicited advertisement to all nodes: `address` is at `mac` from now on (RFC 4861 section 7.2.6)."""
    return _frame(mac, address, _ALL_NODES, ADVERTISEMENT, _OVERRIDE, address, bytes((_TARGET_MAC, 1)) + mac)


def probe(mac: bytes, address: IPv6Address) -> bytes:
    """Asks who has `address` without saying that we have any, as duplicate address detection does (RFC 4862 5.4.2)."""
    group = IPv6Address(_SOLICITED | int(address) & 0xFF_FFFF)
    return _frame(mac, IPv6Address(0), group, SOLICITATION, 0, address)


def claim_in(frame: bytes) -> Claim | None:
    """Who says in this frame that he has an address, as bpf/nd.h understands it: he advertises it, or asks as it."""
    if len(frame) < _HEADERS.size + _MESSAGE.size:
        return None
    _, mac, ethertype, _, _, protocol, hops, source, _ = _HEADERS.unpack_from(frame)
    kind, code, _, _, target = _MESSAGE.unpack_from(frame, _HEADERS.size)
    if (ethertype, protocol, hops, code) != (ETHERTYPE, _ICMPV6, _HOP_LIMIT, 0):
        return None
    if kind == ADVERTISEMENT:
        return Claim(IPv6Address(target), mac)
    return Claim(IPv6Address(source), mac) if kind == SOLICITATION else None


def _frame(
    mac: bytes, source: IPv6Address, group: IPv6Address, kind: int, flags: int, target: IPv6Address, option: bytes = b""
) -> bytes:
    body = _MESSAGE.pack(kind, 0, 0, flags, target.packed) + option
    pseudo = source.packed + group.packed + struct.pack("!IxxxB", len(body), _ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    to = b"\x33\x33" + group.packed[-4:]
    header = _HEADERS.pack(to, mac, ETHERTYPE, 6 << 28, len(body), _ICMPV6, _HOP_LIMIT, source.packed, group.packed)
    return header + body


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
