"""ICMPv6 to a virtual address: errors are their real's, the rest is the kernel's (bpf/icmpv6.h). Pure."""

from __future__ import annotations

from lb.reference.frame import IPV6_BYTES, TCP_ACK, Packet, number
from lb.reference.ipv6 import FRAGMENT, OFFSET
from lb.reference.maps import IPV6, Configuration, ConnectionKey
from lb.reference.stats import Outcome, Undecided

_ICMP_BYTES = 8
_QUOTED_BYTES = 8
_ERRORS = range(1, 5)
"""Destination unreachable, packet too big, time exceeded, parameter problem. RFC 4443."""


def parse_icmpv6(configuration: Configuration, virtual: int, data: bytes, length: int) -> Packet | Outcome | Undecided:
    """An error becomes a packet of the connection that it quotes. length: the whole packet's."""
    if len(data) < _ICMP_BYTES:
        return Outcome.MALFORMED
    if data[0] not in _ERRORS:
        return Undecided.FOR_KERNEL
    quoted = data[_ICMP_BYTES:]
    if len(quoted) < IPV6_BYTES + _QUOTED_BYTES or quoted[0] >> 4 != 6:
        return Outcome.MALFORMED
    protocol, inner = quoted[6], quoted[IPV6_BYTES:]
    if protocol == FRAGMENT:
        if number(inner, 2, 2) & OFFSET:
            return Undecided.FOR_KERNEL
        protocol, inner = inner[0], inner[8:]
        if len(inner) < _QUOTED_BYTES:
            return Outcome.MALFORMED
    if IPV6 | number(quoted, 8, 16) != virtual or (virtual, protocol) not in configuration.served:
        return Undecided.FOR_KERNEL
    client, ports = IPV6 | number(quoted, 24, 16), (number(inner, 2, 2), number(inner, 0, 2))
    return Packet(ConnectionKey(client, virtual, *ports, protocol), TCP_ACK, length, is_error=True)
