"""One loaded program with the maps that only it has: the tables its schedulers go by."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lb import abi
from lb.datapath import source
from lb.datapath.load import Loaded
from lb.datapath.rows import Placement
from lb.datapath.slots import Lists, SlotTables
from lb.datapath.view import typed_maps
from lb.schedule import SCHEDULERS, plan_of
from lb.service import Service


class Program:
    """Owns the descriptors. layouts: of all maps of the program."""

    def __init__(self, loaded: Loaded) -> None:
        self.fd = loaded.program_fd
        self.layouts = loaded.layouts
        self._maps = typed_maps(loaded.layouts, source.wire_fields(), loaded.map_fds)
        self._tables = SlotTables(self._maps["schedules"], self._maps["slots"])
        self._lists = Lists(self._maps["schedules"], self._maps["lists"])
        self._schedules = self._maps["schedules"].mapped()

    def close(self) -> None:
        """Let go of it; while it is attached it lives on."""
        os.close(self.fd)
        for opened in self._maps.values():
            opened.close()

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
