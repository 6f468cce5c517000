"""Checks by way of the virtual's address: the programs of `bpf/probe.c`, and which probe address stands for what.

Opened when the first check needs it: it is compiled in a child process, as the packet program is, and apart from it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from lb import abi, bpf
from lb.addresses import Address
from lb.datapath.load import load_probe
from lb.datapath.source import probe_text
from lb.errors import NetworkError
from lb.netif import Detour

log = structlog.get_logger(__name__)

NETWORKS: Final[Mapping[int, IPv4Network | IPv6Network]] = {
    4: IPv4Network("198.18.0.0/15"),
    6: IPv6Network("2001:2::/48"),
}
"""Probe addresses by family: ranges that are reserved for tests (RFC 2544, RFC 5180) and that no network routes. No
packet leaves with one."""
PROBES_MAX: Final = 65_536

KEY: Final = np.dtype([("address", ">u8", 2)])
VALUE: Final = np.dtype([("virtual", ">u8", 2), ("mac", "u1", 6), ("unused", "<u2")])
"""struct address and struct probe of bpf/probe.c."""


class Behind(NamedTuple):
    """What a probe address stands for: a virtual's address on a real, by the real's MAC."""

    virtual: Address
    mac: bytes


class Probing:
    """The detour of one interface. source: this host's address on it, from which its family asks."""

    def __init__(self, interface: str, source: Address) -> None:
        self._interface, self._source = interface, source
        self._detour: Detour | None = None
        self._probes: bpf.Map | None = None
        self._known: dict[Address, Behind] = {}

    async def open(self, families: Iterable[int]) -> None:
        """Load and attach for probe addresses of these families, unless that is done. Raises DataPathError,
        NetworkError."""
        if self._detour is None:
            ask_fd, answer_fd, map_fd = await asyncio.to_thread(load_probe, probe_text(PROBES_MAX))
            try:
                self._probes = bpf.Map(map_fd, KEY, VALUE)
                self._detour = Detour(self._interface, ask_fd, answer_fd)
            finally:
                os.close(ask_fd)
                os.close(answer_fd)
        for family in families:
            self._detour.lead(NETWORKS[family], self._source if self._source.version == family else None)

    def close(self) -> None:
        """Detach and remove everything."""
        try:
            if self._detour:
                self._detour.close()
        except NetworkError as error:
            log.warning("something of the checks is left on the interface", error=str(error))
        if self._probes:
            self._probes.close()

    def update(self, wanted: Mapping[Address, Behind]) -> None:
        """Let the probe addresses stand for exactly these from now on."""
        if self._probes is None or wanted == self._known:
            return
        gone = [address for address in self._known if address not in wanted]
        new = {address: behind for address, behind in wanted.items() if self._known.get(address) != behind}
        self._probes.delete(keys(gone))
        rows = [(abi.words(behind.virtual), tuple(behind.mac), 0) for behind in new.values()]
        self._probes.update(keys(new), np.array(rows, VALUE))
        self._known = dict(wanted)

    def leads(self, address: Address) -> bool:
        """Is it known whom that probe address stands for?"""
        return address in self._known


def keys(addresses: Iterable[Address]) -> npt.NDArray[Any]:
    """As the map has them."""
    return np.array([(abi.words(address),) for address in addresses], KEY)
