"""The lease, and ARP's questions for a virtual address (bpf/arp.h). Pure."""

from __future__ import annotations

from lb.reference.maps import Configuration, Maps
from lb.reference.parse import ETHERNET_BYTES, number
from lb.reference.stats import Outcome

ETHERTYPE_ARP = 0x0806

_QUESTION_BYTES = 28
_HARDWARE_ETHERNET = 1
_PROTOCOL_IPV4 = 0x0800
_REQUEST = 1


def lease_is_fresh(maps: Maps, now_ns: int) -> bool:
    """May the kernel speak for the virtual addresses?"""
    return now_ns < maps.lease_until_ns


def parse_arp(configuration: Configuration, frame: bytes) -> bool:
    """Does it ask for one of the virtual addresses? To whom it was sent does not matter. RFC 826."""
    arp = frame[ETHERNET_BYTES:]
    return (
        len(arp) >= _QUESTION_BYTES
        and number(arp, 0, 2) == _HARDWARE_ETHERNET
        and number(arp, 2, 2) == _PROTOCOL_IPV4
        and number(arp, 6, 2) == _REQUEST
        and number(arp, 24, 4) in configuration.virtuals
    )


def answer_arp(maps: Maps, now_ns: int) -> Outcome:
    """The kernel answers with a fresh lease, nobody without."""
    return Outcome.PASSED if lease_is_fresh(maps, now_ns) else Outcome.ARP_NO_LEASE
