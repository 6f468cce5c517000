"""From a frame to a packet of an IPv6 virtual (bpf/parse6.h). Pure."""

from __future__ import annotations

from lb.reference.frame import IPV6_BYTES, Packet, number
from lb.reference.icmpv6 import parse_icmpv6
from lb.reference.ipv6 import skip_extensions
from lb.reference.maps import IPV6, Configuration
from lb.reference.parse import parse_transport
from lb.reference.service import ICMPV6
from lb.reference.stats import Outcome, Undecided

ETHERTYPE_IPV6 = 0x86DD


def parse_ipv6(configuration: Configuration, destination: bytes, ip: bytes) -> Packet | Outcome | Undecided:
    """The packet in a frame of type IPv6. destination: the MAC it was sent to. RFC 8200 section 3."""
    if len(ip) < IPV6_BYTES:
        return Outcome.FOREIGN  # too short to say whose it is
    virtual = IPV6 | number(ip, 24, 16)
    if virtual not in configuration.virtuals or not configuration.is_sent_to_us(destination):
        return Outcome.FOREIGN
    length = IPV6_BYTES + number(ip, 4, 2)
    if ip[0] >> 4 != 6 or length > len(ip):
        return Outcome.MALFORMED
    found = skip_extensions(ip[6], ip[IPV6_BYTES:length])
    if not isinstance(found, tuple):
        return found
    protocol, data = found
    if protocol == ICMPV6:
        return parse_icmpv6(configuration, virtual, data, length)
    if (virtual, protocol) not in configuration.served:
        return Outcome.FOREIGN
    return parse_transport(IPV6 | number(ip, 8, 16), virtual, protocol, data, length)
