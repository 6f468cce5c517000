"""Whose rows a director tells of: those of the groups of addresses that it leads. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from lb.addresses import Address
from lb.connections import CONNECTION, Rows

_LOW: Final = (1 << 64) - 1


class Share:
    """groups: the addresses of each. With one group everything is that group's."""

    def __init__(self, groups: Mapping[str, Iterable[Address]]) -> None:
        self._groups = {name: tuple(addresses) for name, addresses in groups.items()}

    def within(self, families: Iterable[Rows], led: frozenset[str]) -> tuple[Rows, ...]:
        """The rows of these groups. What is of no group's address (any more) belongs to that called ""."""
        if led == self._groups.keys():
            return tuple(families)
        return tuple(rows[self._belongs(rows, led)] for rows in families)

    def _belongs(self, rows: Rows, led: frozenset[str]) -> npt.NDArray[np.bool_]:
        others = np.zeros(len(rows), np.bool_)
        found = np.zeros(len(rows), np.bool_)
        for name, addresses in self._groups.items():
            if not name:
                continue
            here = np.zeros(len(rows), np.bool_)
            for address in addresses:
                here |= _is_to(rows, address)
            others |= here
            if name in led:
                found |= here
        return found | ~others if "" in led else found


def _is_to(rows: Rows, address: Address) -> npt.NDArray[np.bool_]:
    if (address.version == 4) != (rows.dtype == CONNECTION):
        return np.zeros(len(rows), np.bool_)
    number = int(address)
    if address.version == 4:
        return np.asarray(rows["virtual"] == number)
    return np.asarray((rows["virtual"][:, 0] == number >> 64) & (rows["virtual"][:, 1] == number & _LOW))
