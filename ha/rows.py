"""Connection rows as bytes: one binary field a column, in network byte order. Pure; no Python object a row.

A reader checks everything before it believes a row: that all columns are there and as long as they must be, that the
protocol is one of ours and the state one that exists. Unknown columns are passed over, so that a newer sender can say
more.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from lb.connections import CONNECTION, Rows

MAX_ROWS: Final = 4096
"""Rows of one message: about 80 KiB, a few milliseconds of work."""

MAX_STATE: Final = 11
"""The highest number of `lb.tcp.State`."""
PROTOCOLS: Final = (6, 17)

_COLUMNS: Final = {name: CONNECTION[name].newbyteorder(">") for name in CONNECTION.names or ()}


class BadRows(ValueError):  # noqa: N818
    """Columns that are no rows; the message says what is wrong with them."""


def encode(rows: Rows) -> dict[str, bytes]:
    """The columns. Raises ValueError for more than MAX_ROWS."""
    if len(rows) > MAX_ROWS:
        raise ValueError(f"{len(rows)} rows; at most {MAX_ROWS} in one message")
    return {name: rows[name].astype(kind).tobytes() for name, kind in _COLUMNS.items()}


def decode(columns: Any) -> Rows:
    """The rows, as an array of its own. Raises BadRows for anything that `encode` would not have made."""
    if not isinstance(columns, dict):
        raise BadRows("not a map of columns")
    count = _count(columns)
    rows = np.empty(count, CONNECTION)
    for name, kind in _COLUMNS.items():
        rows[name] = np.frombuffer(columns[name], kind)
    if not np.isin(rows["protocol"], PROTOCOLS).all():
        raise BadRows(f"a protocol is none of {PROTOCOLS}")
    if (rows["state"] > MAX_STATE).any():
        raise BadRows(f"a state is above {MAX_STATE}")
    return rows


def _count(columns: dict[Any, Any]) -> int:
    counts = set()
    for name, kind in _COLUMNS.items():
        column = columns.get(name)
        if not isinstance(column, bytes) or len(column) % kind.itemsize:
            raise BadRows(f"column {name} is missing or not whole")
        counts.add(len(column) // kind.itemsize)
    if len(counts) != 1 or (count := counts.pop()) > MAX_ROWS:
        raise BadRows(f"columns of {sorted(counts) or count} rows; accepted: equal ones, at most {MAX_ROWS}")
    return count
