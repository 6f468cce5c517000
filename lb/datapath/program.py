"""One loaded program with the maps that only it has: the tables its schedulers go by."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from lb import abi
from lb.datapath import source
from lb.datapath.load import Loaded
from lb.datapath.rows import Placement
from lb.datapath.slots import Lists, SlotTables
from lb.datapath.view import typed_maps
from lb.limits import Limits
from lb.schedule import SCHEDULERS, plan_of
from lb.service import Service

_FAMILY_BITS = 32
"""Of a prefix in the packet program's list, before those of the address."""


class Program:
    """Owns the descriptors. layouts: of all maps of the program."""

    def __init__(self, loaded: Loaded, limits: Limits) -> None:
        self.fd = loaded.program_fd
        self.layouts = loaded.layouts
        self._maps = typed_maps(loaded.layouts, source.wire_fields(), loaded.map_fds)
        self._tables = SlotTables(self._maps["schedules"], self._maps["slots"])
        self._lists = Lists(self._maps["schedules"], self._maps["lists"])
        self._schedules = self._maps["schedules"].mapped()
        self._deny = limits.deny
        self._fill_deny_lists()

    def close(self) -> None:
        """Let go of it; while it is attached it lives on."""
        os.close(self.fd)
        for opened in self._maps.values():
            opened.close()

    def _fill_deny_lists(self) -> None:
        """A prefix that stands in several lists counts for the last."""
        entries = self._maps["denied_by"]
        prefixes = [(number, prefix) for number, deny in enumerate(self._deny) for prefix in deny.prefixes]
        keys = np.zeros(len(prefixes), entries.key)
        for key, (_, prefix) in zip(keys, prefixes, strict=True):
            key["prefix"], key["family"] = _FAMILY_BITS + prefix.prefixlen, prefix.version
            address = np.frombuffer(prefix.network_address.packed, ">u4")
            key["denied"][: len(address)] = address
        entries.update(keys, np.array([number for number, _ in prefixes], entries.value))

    def denied(self) -> dict[str, int]:
        """Packets that each list turned away since this program was loaded."""
        counted = self._maps["denied_packets"].read().sum(axis=1).tolist()
        return {deny.name: count for deny, count in zip(self._deny, counted, strict=False)}

    def publish(self, services: Sequence[Service], placements: Sequence[Placement]) -> list[bool]:
        """Schedule new connections by these; services in the order the program was compiled with.

        placements: the indices of their reals. Returns whose fallback is at work. Raises DataPathError.
        """
        fallbacks = []
        for number, (service, placement) in enumerate(zip(services, placements, strict=True)):
            plan = plan_of(service)
            self._schedules["scheduler"][number] = list(SCHEDULERS).index(service.scheduler)
            self._schedules["flags"][number] = abi.service_flags(service.scheduler, service.flags)
            self._tables.publish(number, plan.table, placement)
            self._lists.publish(number, plan.candidates, placement)
            fallbacks.append(plan.fallback)
        return fallbacks
