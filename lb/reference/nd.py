"""Who answers for an IPv6 virtual address, and who else says that it is his (bpf/nd.h). Pure."""

from __future__ import annotations

from lb.reference.frame import IPV6_BYTES, number
from lb.reference.lease import end_lease, lease_is_fresh
from lb.reference.maps import IPV6, Configuration, Maps
from lb.reference.service import ICMPV6
from lb.reference.stats import Outcome

_ND_BYTES = 24
_SOLICITATION, _ADVERTISEMENT = 135, 136
_HOP_LIMIT = 255
"""What no router let through. RFC 4861 sections 7.1.1 and 7.1.2."""


def is_nd(ip: bytes) -> bool:
    """Is it neighbour discovery, right behind the IPv6 header? RFC 4861 sections 4.3 and 4.4."""
    nd = ip[IPV6_BYTES:]
    return len(nd) >= _ND_BYTES and ip[6] == ICMPV6 and nd[0] in (_SOLICITATION, _ADVERTISEMENT)


def parse_nd(configuration: Configuration, maps: Maps, source: bytes, ip: bytes) -> bool:
    """Does it ask for one of the virtual addresses? source: the MAC that the frame comes from.

    Who sends from another MAC than ours as such an address, or advertises one, asks nothing, and ends the lease.
    """
    nd = ip[IPV6_BYTES:]
    if ip[7] != _HOP_LIMIT or nd[1]:
        return False
    target = IPV6 | number(nd, 8, 16)
    claimed = target if nd[0] == _ADVERTISEMENT else IPV6 | number(ip, 8, 16)
    if claimed in configuration.virtuals and source not in configuration.macs:
        end_lease(maps)
        return False
    return nd[0] == _SOLICITATION and target in configuration.virtuals


def answer_nd(maps: Maps, now_ns: int) -> Outcome:
    """The kernel answers with a fresh lease, nobody without."""
    return Outcome.PASSED if lease_is_fresh(maps, now_ns) else Outcome.ND_NO_LEASE
