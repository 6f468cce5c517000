"""Two tables compared by little: a sum for each of many buckets of connections. Pure; no Python object a row.

Which bucket a connection is in, and what it adds to the bucket's sum, are hashes of who speaks to whom, over which
real and in which state. How long it was idle is left out: that differs by where it is looked at, and mends itself. The
hashes guard against accidents only; who may speak here at all is known by the session.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lb.connections import Rows

BUCKETS: Final = 1 << 14
"""128 KiB of sums; of a million connections 61 are in a bucket."""

_COMPARED: Final = ("client", "virtual", "client_port", "virtual_port", "protocol")
_ODD: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
_SHIFT: Final = np.uint64(32)
_MASK: Final = np.uint64(BUCKETS - 1)

BYTES: Final = BUCKETS * 8

Hashes = npt.NDArray[np.uint64]


def sums(families: Iterable[Rows]) -> bytes:
    """The sums of all buckets, 64 bits each in network order."""
    total = np.zeros(BUCKETS, np.uint64)
    for rows in families:
        keys = _keys(rows)
        np.add.at(total, buckets_of(keys), _mixed(_mixed(keys, rows["real"]), rows["state"]))
    return total.astype(">u8").tobytes()


def differing(ours: bytes, theirs: bytes) -> bytes:
    """One bit for each bucket whose sums differ. Raises ValueError if these are no sums."""
    if len(ours) != BYTES or len(theirs) != BYTES:
        raise ValueError(f"{len(theirs)} bytes; sums have {BYTES}")
    return np.packbits(np.frombuffer(ours, ">u8") != np.frombuffer(theirs, ">u8")).tobytes()


def within(rows: Rows, wanted: bytes) -> Rows:
    """Those in buckets whose bit is set. Raises ValueError if these are no bits."""
    if len(wanted) * 8 != BUCKETS:
        raise ValueError(f"{len(wanted)} bytes; the bits of all buckets have {BUCKETS // 8}")
    bits = np.unpackbits(np.frombuffer(wanted, np.uint8)).astype(np.bool_)
    return rows[bits[buckets_of(_keys(rows))]]


def buckets_of(keys: Hashes) -> npt.NDArray[np.int64]:
    """By their hashed keys."""
    return (keys >> _SHIFT & _MASK).astype(np.int64)


def _keys(rows: Rows) -> Hashes:
    hashed = np.full(len(rows), len(rows.dtype.fields or ()), np.uint64)
    for name in _COMPARED:
        hashed = _mixed(hashed, rows[name])
    return hashed


def _mixed(hashed: Hashes, column: npt.NDArray[Any]) -> Hashes:
    """With another column, whose every bit matters for every bit (a multiplication and a fold, twice)."""
    parts = (column,) if column.ndim == 1 else column.T
    for part in parts:
        for _ in range(2):
            hashed = (hashed ^ part.astype(np.uint64)) * _ODD
            hashed ^= hashed >> _SHIFT
    return hashed
