"""IPv6's extension headers (bpf/ipv6.h). Pure."""

from __future__ import annotations

from lb.reference.frame import number
from lb.reference.service import ICMPV6
from lb.reference.stats import Outcome, Undecided

FRAGMENT = 44
_HOP_BY_HOP, _ROUTING, _DESTINATION_OPTIONS = 0, 43, 60
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, FRAGMENT, _DESTINATION_OPTIONS})
_EXTENSIONS_MAX = 6
_FRAGMENTED = 0xFFF9
"""An offset, or "more fragments". RFC 8200 section 4.5."""


def skip_extensions(protocol: int, data: bytes) -> tuple[int, bytes] | Outcome | Undecided:
    """What follows the extension headers, and its bytes.

    A datagram in one fragment is whole (RFC 6946). A packet that has to go elsewhere first is not ours yet.
    """
    for _ in range(_EXTENSIONS_MAX):
        if protocol not in _EXTENSIONS:
            return protocol, data
        if len(data) < 8:
            return Outcome.MALFORMED
        if protocol == FRAGMENT and number(data, 2, 2) & _FRAGMENTED:
            return Undecided.FOR_KERNEL if data[0] == ICMPV6 else Outcome.FRAGMENT
        if protocol == _ROUTING and data[3]:
            return Outcome.FOREIGN
        size = 8 if protocol == FRAGMENT else 8 + 8 * data[1]
        if size > len(data):
            return Outcome.MALFORMED
        protocol, data = data[0], data[size:]
    return Outcome.MALFORMED if protocol in _EXTENSIONS else (protocol, data)
