"""IPv6's extension headers (bpf/ipv6.h). Pure."""

from __future__ import annotations

from typing import NamedTuple

from lb.reference.frame import number
from lb.reference.stats import Outcome

FRAGMENT = 44
OFFSET = 0xFFF8
"""Of a fragment header's field; the lowest bit says that more follow. RFC 8200 section 4.5."""

_HOP_BY_HOP, _ROUTING, _DESTINATION_OPTIONS = 0, 43, 60
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, FRAGMENT, _DESTINATION_OPTIONS})
_EXTENSIONS_MAX = 6
_EXTENSIONS_BYTES = 2047
"""So many at most, and all together."""
_MORE = 0x0001


class Chain(NamedTuple):
    """What follows the extension headers, and its bytes.

    fragment: a fragment's header and all behind it; behind a later one's nothing is known. b"": the datagram is whole.
    """

    protocol: int
    data: bytes
    fragment: bytes


def skip_extensions(protocol: int, data: bytes) -> Chain | Outcome:
    """Only up to a routing header by which the packet has to go elsewhere first.

    Of a fragment only the first one says what follows (section 4.5); a datagram in one fragment is whole (RFC 6946).
    """
    fragment, left = b"", _EXTENSIONS_BYTES
    for _ in range(_EXTENSIONS_MAX):
        if protocol not in _EXTENSIONS:
            break
        if len(data) < 8:
            return Outcome.MALFORMED
        if protocol == FRAGMENT and number(data, 2, 2) & (OFFSET | _MORE):
            if fragment:
                return Outcome.MALFORMED  # a fragment of a fragment
            fragment = data
            if number(data, 2, 2) & OFFSET:
                return Chain(data[0], b"", fragment)
        if protocol == _ROUTING and data[3]:
            return Chain(protocol, data, fragment)
        size = 8 if protocol == FRAGMENT else 8 + 8 * data[1]
        left -= size
        if size > len(data) or left < 0:
            return Outcome.MALFORMED
        protocol, data = data[0], data[size:]
    return Outcome.MALFORMED if protocol in _EXTENSIONS else Chain(protocol, data, fragment)
