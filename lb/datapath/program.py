"""One loaded program with the maps that only it has: the tables its schedulers go by."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from lb.datapath import source
from lb.datapath.load import Loaded
from lb.datapath.rows import Placement
from lb.datapath.slots import SlotTables
from lb.datapath.view import typed_maps
from lb.schedule import table_of
from lb.service import Service


class Program:
    """Owns the descriptors. layouts: of all maps of the program."""

    def __init__(self, loaded: Loaded) -> None:
        self.fd = loaded.program_fd
        self.layouts = loaded.layouts
        self._maps = typed_maps(loaded.layouts, source.wire_fields(), loaded.map_fds)
        self._tables = SlotTables(self._maps["schedules"], self._maps["slots"])

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
            table, fallback = table_of(service)
            self._tables.publish(number, np.array(placement, np.uint32)[table])
            fallbacks.append(fallback)
        return fallbacks
