"""Virtual time: what is to happen, in its order. Nothing else in the simulation knows the time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

START_S = 1000.0


class Queue:
    """now_s: what time it is."""

    def __init__(self) -> None:
        self.now_s = START_S
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []

    def at(self, after_s: float, call: Callable[[], object]) -> None:
        """Call it so many seconds from now; in the order of asking where that is the same moment."""
        heapq.heappush(self._waiting, (self.now_s + after_s, next(self._order), call))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.now_s + seconds
        while self._waiting and self._waiting[0][0] <= end_s:
            self.now_s, _, call = heapq.heappop(self._waiting)
            call()
        self.now_s = end_s
