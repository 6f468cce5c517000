"""From a frame to a packet of an IPv6 virtual (bpf/parse6.h). Pure."""

from __future__ import annotations

from lb.reference.frame import IPV6_BYTES, First, LaterFragment, NotFirst, number
from lb.reference.icmpv6 import parse_icmpv6
from lb.reference.ipv6 import OFFSET, Chain, skip_extensions
from lb.reference.maps import IPV6, Configuration, DatagramKey
from lb.reference.parse import parse_transport
from lb.reference.service import ICMPV6
from lb.reference.stats import Outcome, Undecided

ETHERTYPE_IPV6 = 0x86DD

_FRAGMENT_BYTES = 8


def parse_ipv6(configuration: Configuration, destination: bytes, ip: bytes) -> First | NotFirst:
    """The packet in a frame of type IPv6. destination: the MAC it was sent to. RFC 8200 section 3."""
    if len(ip) < IPV6_BYTES:
        return Outcome.FOREIGN  # too short to say whose it is
    client, virtual = IPV6 | number(ip, 8, 16), IPV6 | number(ip, 24, 16)
    if virtual not in configuration.virtuals or not configuration.is_sent_to_us(destination):
        return Outcome.FOREIGN
    length = IPV6_BYTES + number(ip, 4, 2)
    if ip[0] >> 4 != 6 or length > len(ip):
        return Outcome.MALFORMED
    chain = skip_extensions(ip[6], ip[IPV6_BYTES:length])
    if isinstance(chain, Outcome):
        return chain
    if not chain.fragment:
        return _parse_inner(configuration, client, virtual, chain, length)
    datagram = DatagramKey(client, virtual, number(chain.fragment, 4, 4), 0)
    if begins := number(chain.fragment, 2, 2) & OFFSET:
        return LaterFragment(datagram, begins, length)
    size = len(chain.fragment) - _FRAGMENT_BYTES
    return First(datagram, size, _parse_inner(configuration, client, virtual, chain, length))


def _parse_inner(configuration: Configuration, client: int, virtual: int, chain: Chain, length: int) -> NotFirst:
    """Errors do not come in fragments, which all other ICMP may."""
    if chain.protocol == ICMPV6:
        return Undecided.FOR_KERNEL if chain.fragment else parse_icmpv6(configuration, virtual, chain.data, length)
    if (virtual, chain.protocol) not in configuration.served:
        return Outcome.FOREIGN
    return parse_transport(client, virtual, chain.protocol, chain.data, length, whole=not chain.fragment)
