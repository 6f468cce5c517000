"""Which service a row of numpy's names: its place among the rows of `services`. Pure."""

from __future__ import annotations

import numpy as np

from lb import abi
from lb.abi import Array, ServiceFlag
from lb.connections import CONNECTION6, Rows

_FACTORS = np.array(
    (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63), np.uint64
)


def place_of(services: Array, rows: Array) -> Array:
    """The place of the service that each row names, of `reals` or of the exchange format; -1: there is none.

    services: all rows of that map. A group's further addresses and ports have places of their own.
    """
    used = np.flatnonzero(services["flags"])
    places = np.full(len(rows), -1, np.int64)
    if len(used):
        codes, wanted = _codes(services[used]), _codes(rows)
        order = np.argsort(codes)
        at = order[np.minimum(np.searchsorted(codes[order], wanted), len(order) - 1)]
        hits = codes[at] == wanted
        places[hits] = used[at[hits]]
    return places


def has_groups(services: Array) -> bool:
    """Is any service for several addresses, ports or protocols?"""
    return bool((services["flags"] & ServiceFlag.MEMBER).any())


def by_leader(services: Array, rows: Rows) -> Rows:
    """The rows, in which what was sent to a further address or port of a group is named by the group's first ones."""
    places = place_of(services, rows)
    of_group = (places >= 0) & (services["flags"][places] & ServiceFlag.MEMBER != 0)
    leaders = services[services["leader"][places[of_group]]]
    rows = rows.copy()
    virtuals = leaders["virtual"].astype(np.uint64)
    rows["virtual"][of_group] = virtuals if rows.dtype == CONNECTION6 else virtuals[:, 1] & np.uint64(0xFFFF_FFFF)
    rows["virtual_port"][of_group], rows["protocol"][of_group] = leaders["virtual_port"], leaders["protocol"]
    return rows


def mixed(words: Array) -> Array:
    """A number for each row of up to five words; two rows have the same one by an accident that never happens."""
    codes: Array = (words * _FACTORS[: words.shape[1]]).sum(axis=1, dtype=np.uint64)
    return codes


def _codes(rows: Array) -> Array:
    last = rows["virtual_port"].astype(np.uint64) << np.uint64(8) | rows["protocol"]
    return mixed(np.column_stack([abi.mapped(rows["virtual"]), last]))
