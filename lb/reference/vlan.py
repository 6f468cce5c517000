"""VLAN tags, IEEE 802.1Q and 802.1ad (bpf/vlan.h). Pure."""

from __future__ import annotations

from lb.reference.frame import ETHERNET_BYTES, number

_TAG_BYTES = 4
_TAGS = frozenset({0x8100, 0x88A8})
_TAGS_MAX = 2


def skip_tags(frame: bytes) -> tuple[int, bytes]:
    """The EtherType behind all tags, and what it announces. Of a tag that is cut off, or one too many: its own."""
    at = ETHERNET_BYTES
    for _ in range(_TAGS_MAX):
        if number(frame, at - 2, 2) not in _TAGS or len(frame) < at + _TAG_BYTES:
            break
        at += _TAG_BYTES
    return number(frame, at - 2, 2), frame[at:]
