"""Connection rows as bytes: one binary field a column, in network byte order. Pure; no Python object a row.

A reader checks everything before it believes a row: that all columns are there and as long as they must be, that the
protocol is one of ours and the state one that exists. A newer sender can say more: unknown columns are passed over, and
so are rows whose protocol or state does not exist here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from lb.connections import CONNECTION, CONNECTION6, Rows

MAX_ROWS: Final = 4096
"""Rows of one message: about 80 KiB, of IPv6 224; a few milliseconds of work."""

MAX_STATE: Final = 12
"""The highest number of `lb.tcp.State`."""
PROTOCOLS: Final = (6, 17)

_COLUMNS: Final = {
    kind: {name: kind[name].newbyteorder(">") for name in kind.names or ()} for kind in (CONNECTION, CONNECTION6)
}


class BadRows(ValueError):  # noqa: N818
    """Columns that are no rows; the message says what is wrong with them."""


def encode(rows: Rows) -> dict[str, bytes]:
    """The columns. Raises ValueError for more than MAX_ROWS."""
    if len(rows) > MAX_ROWS:
        raise ValueError(f"{len(rows)} rows; at most {MAX_ROWS} in one message")
    return {name: rows[name].astype(kind.base).tobytes() for name, kind in _COLUMNS[rows.dtype].items()}


def decode(columns: Any, kind: np.dtype[Any] = CONNECTION) -> Rows:
    """The rows that mean something here. Raises BadRows for what are no columns of that kind."""
    if not isinstance(columns, dict):
        raise BadRows("not a map of columns")
    rows = np.empty(_count(columns, kind), kind)
    for name, column in _COLUMNS[kind].items():
        rows[name] = np.frombuffer(columns[name], column)
    known = np.isin(rows["protocol"], PROTOCOLS) & (rows["state"] <= MAX_STATE)
    return rows if known.all() else rows[known]


def _count(columns: dict[Any, Any], kind: np.dtype[Any]) -> int:
    counts = set()
    for name, item in _COLUMNS[kind].items():
        column = columns.get(name)
        if not isinstance(column, bytes) or len(column) % item.itemsize:
            raise BadRows(f"column {name} is missing or not whole")
        counts.add(len(column) // item.itemsize)
    if len(counts) != 1 or (count := counts.pop()) > MAX_ROWS:
        raise BadRows(f"columns of {sorted(counts) or count} rows; accepted: equal ones, at most {MAX_ROWS}")
    return count
