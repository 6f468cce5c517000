"""Which service is a packet for? (bpf/service.h) Pure."""

from __future__ import annotations

from lb.reference.maps import Configuration
from lb.service import PROTOCOL_NUMBERS

TCP = PROTOCOL_NUMBERS["tcp"]
ICMP, ICMPV6 = 1, 58


def is_ours(configuration: Configuration, address: int, protocol: int) -> bool:
    """Is it to be looked at: is it served, or ICMP to a virtual address?"""
    return (address, protocol) in configuration.served or (protocol == ICMP and address in configuration.virtuals)


def match_service(configuration: Configuration, address: int, port: int, protocol: int) -> int | None:
    """The place of the service of exactly this port, else of the one of every port, else None."""
    exact = configuration.index.get((address, port, protocol))
    return configuration.index.get((address, 0, protocol)) if exact is None else exact
