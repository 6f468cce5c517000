"""Who answers for a virtual address, and who else says that it is his (bpf/arp.h). Pure."""

from __future__ import annotations

from lb.reference.frame import number
from lb.reference.lease import end_lease, lease_is_fresh
from lb.reference.maps import Configuration, Maps
from lb.reference.stats import Outcome

ETHERTYPE_ARP = 0x0806

_ARP_BYTES = 28
_HARDWARE_ETHERNET = 1
_PROTOCOL_IPV4 = 0x0800
_REQUEST = 1


def parse_arp(configuration: Configuration, maps: Maps, arp: bytes) -> bool:
    """Does it ask for one of the virtual addresses? To whom it was sent does not matter. RFC 826.

    Who says that such an address is at another MAC than ours asks nothing, and ends the lease.
    """
    if len(arp) < _ARP_BYTES or (number(arp, 0, 2), number(arp, 2, 2)) != (_HARDWARE_ETHERNET, _PROTOCOL_IPV4):
        return False
    if number(arp, 14, 4) in configuration.virtuals and arp[8:14] not in configuration.macs:
        end_lease(maps)
        return False
    return number(arp, 6, 2) == _REQUEST and number(arp, 24, 4) in configuration.virtuals


def answer_arp(maps: Maps, now_ns: int) -> Outcome:
    """The kernel answers with a fresh lease, nobody without."""
    return Outcome.PASSED if lease_is_fresh(maps, now_ns) else Outcome.ARP_NO_LEASE
