"""A frame, and what is known of the packet in it once it is parsed (bpf/frame.h). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lb.reference.maps import ConnectionKey, DatagramKey
from lb.reference.stats import Outcome, Undecided

ETHERNET_BYTES = 14
IPV6_BYTES = 40
TCP_ACK = 0x10


@dataclass(frozen=True, slots=True)
class Packet:
    """Of a virtual. length: IPv4's total length, or the same of IPv6; tcp_flags: 0 for a datagram.

    is_error: it is ICMP's, about a packet of this connection.
    """

    key: ConnectionKey
    tcp_flags: int
    length: int
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class LaterFragment:
    """One without ports, which begins at this byte of the datagram. length: as of a packet."""

    datagram: DatagramKey
    begins: int
    length: int


NotFirst = Packet | LaterFragment | Outcome | Undecided


@dataclass(frozen=True, slots=True)
class First:
    """The first fragment of a datagram, with so many bytes of it. what: as which it is carried."""

    datagram: DatagramKey
    size: int
    what: NotFirst


def number(data: bytes, at: int, size: int) -> int:
    """A field in wire order."""
    return int.from_bytes(data[at : at + size], "big")
