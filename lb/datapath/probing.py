"""Checks by way of the virtual's address: the programs of `bpf/probe.c`, and which probe address stands for what.

Opened when the first check needs it: it is compiled in a child process, as the packet program is, and apart from it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from lb import bpf
from lb.addresses import Address
from lb.datapath.load import load_probe
from lb.datapath.source import probe_text
from lb.errors import NetworkError
from lb.netif import Detour

log = structlog.get_logger(__name__)

NETWORK: Final = IPv4Network("198.18.0.0/15")
"""Probe addresses: a range that RFC 2544 reserves for tests and no network routes. No packet leaves with one."""
PROBES_MAX: Final = 65_536

_KEY = np.dtype(">u4")
_VALUE = np.dtype([("virtual", ">u4"), ("mac", "u1", 6), ("unused", "<u2")])
"""struct probe of bpf/probe.c."""


class Behind(NamedTuple):
    """What a probe address stands for: a virtual's address on a real, by the real's MAC."""

    virtual: Address
    mac: bytes


class Probing:
    """The detour of one interface. source: this host's address on it."""

    def __init__(self, interface: str, source: Address) -> None:
        self._interface, self._source = interface, source
        self._detour: Detour | None = None
        self._probes: bpf.Map | None = None
        self._known: dict[IPv4Address, Behind] = {}

    async def open(self) -> None:
        """Load and attach, unless that is done. Raises DataPathError, NetworkError."""
        if self._detour:
            return
        ask_fd, answer_fd, map_fd = await asyncio.to_thread(load_probe, probe_text(PROBES_MAX))
        try:
            self._probes = bpf.Map(map_fd, _KEY, _VALUE)
            self._detour = Detour(self._interface, NETWORK, self._source, ask_fd, answer_fd)
        finally:
            os.close(ask_fd)
            os.close(answer_fd)

    def close(self) -> None:
        """Detach and remove everything."""
        try:
            if self._detour:
                self._detour.close()
        except NetworkError as error:
            log.warning("something of the checks is left on the interface", error=str(error))
        if self._probes:
            self._probes.close()

    def update(self, wanted: Mapping[IPv4Address, Behind]) -> None:
        """Let the probe addresses stand for exactly these from now on."""
        if self._probes is None or wanted == self._known:
            return
        gone = [address for address in self._known if address not in wanted]
        new = {address: behind for address, behind in wanted.items() if self._known.get(address) != behind}
        self._probes.delete(_keys(gone))
        values = np.array([(int(behind.virtual), tuple(behind.mac), 0) for behind in new.values()], _VALUE)
        self._probes.update(_keys(new), values)
        self._known = dict(wanted)

    def leads(self, address: Address) -> bool:
        """Is it known whom that probe address stands for?"""
        return address in self._known


def _keys(addresses: Iterable[IPv4Address]) -> npt.NDArray[Any]:
    return np.array([int(address) for address in addresses], _KEY)
