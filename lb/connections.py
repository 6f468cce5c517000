"""The connection table's exchange format: one numpy row a connection, the same in the data plane's snapshots,
its events and the sync stream. An array holds rows of one kind.

Numbers are in host order inside the process. A row names its virtual and its real by address, never by an index of
this node, so that rows mean the same on every director.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

CONNECTION = np.dtype(
    [
        ("client", "u4"),
        ("virtual", "u4"),
        ("real", "u4"),
        ("client_port", "u2"),
        ("virtual_port", "u2"),
        ("protocol", "u1"),
        ("state", "u1"),
        ("idle_s", "u2"),
    ]
)
"""client, virtual, real: IPv4 addresses as integers (real 0: this director itself); ports; protocol: 6 or 17;
state: a value of `lb.tcp.State`; idle_s: whole seconds since its last packet, at most 65535. 20 bytes, no padding."""

CONNECTION6 = np.dtype(
    [
        ("client", "u8", 2),
        ("virtual", "u8", 2),
        ("real", "u8", 2),
        ("client_port", "u2"),
        ("virtual_port", "u2"),
        ("protocol", "u1"),
        ("state", "u1"),
        ("idle_s", "u2"),
    ]
)
"""The same with IPv6: each address is its high and its low 64 bits. 56 bytes, no padding.

A connection between a family and the other one's real has this row too, its IPv4 addresses mapped (RFC 4291 section
2.5.5.2); real is all zero for this director itself."""

Rows = npt.NDArray[Any]
"""A one-dimensional array of CONNECTION or of CONNECTION6."""


class Ours(Enum):
    """Which of our own entries stay, of connections that another director tells us of.

    LATER: those that were seen clearly later; its news are younger than ours. AS_LATE: also those that were seen at
    about the same time; we have the address, and know better. ALL: every one.
    """

    LATER = "later"
    AS_LATE = "as late"
    ALL = "all"


def empty() -> Rows:
    """No connections."""
    return np.empty(0, CONNECTION)
