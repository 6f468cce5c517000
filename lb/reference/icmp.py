"""ICMP to a virtual address: errors are their real's, the rest is the kernel's (bpf/icmp.h). Pure."""

from __future__ import annotations

from lb.reference.conn import ran_out
from lb.reference.frame import TCP_ACK, Packet, number
from lb.reference.maps import Configuration, ConnectionKey, Maps, RealKey
from lb.reference.stats import Outcome, Undecided

_ICMP_BYTES = 8
_IPV4_BYTES = 20
_QUOTED_BYTES = 8
_ERRORS = frozenset({3, 4, 11, 12})
"""Destination unreachable, source quench, time exceeded, parameter problem. RFC 792."""
_OFFSET = 0x1FFF


def parse_icmp(configuration: Configuration, virtual: int, data: bytes, length: int) -> Packet | Outcome | Undecided:
    """An error becomes a packet of the connection that it quotes. data: behind IPv4's header; length: IPv4's."""
    if len(data) < _ICMP_BYTES:
        return Outcome.MALFORMED
    if data[0] not in _ERRORS:
        return Undecided.FOR_KERNEL
    quoted = data[_ICMP_BYTES:]
    if len(quoted) < _IPV4_BYTES:
        return Outcome.MALFORMED
    header, protocol = (quoted[0] & 15) * 4, quoted[9]
    if quoted[0] >> 4 != 4 or header < _IPV4_BYTES or len(quoted) < header + _QUOTED_BYTES:
        return Outcome.MALFORMED
    sender = number(quoted, 12, 4)
    if sender != virtual or (virtual, protocol) not in configuration.served or number(quoted, 6, 2) & _OFFSET:
        return Undecided.FOR_KERNEL
    ports = number(quoted, header + 2, 2), number(quoted, header, 2)
    return Packet(ConnectionKey(number(quoted, 16, 4), virtual, *ports, protocol), TCP_ACK, length, is_error=True)


def relate(maps: Maps, configuration: Configuration, packet: Packet, now_t: int) -> RealKey | None:
    """The real of the connection that is quoted, whose entry stays as it is; None: nobody here knows it."""
    known = maps.connections.get(packet.key) or maps.embryos.find(packet.key)
    return None if known is None or ran_out(configuration, known, now_t) else known.real
