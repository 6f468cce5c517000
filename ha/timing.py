"""What follows from the times in the file: how many heartbeats at once, how long a deputy goes on, what lateness is
a stall. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SPARE_S: Final = 0.1
"""For so long at least a deputy has spares, however short deadtime is: what a busy machine may hold a loop up for. A
director that hangs is replaced that much later, one whose process or host is dead is not."""

ROUND_S: Final = 0.03
"""So often a loop makes heartbeats at most, however short keepalive is: several at once then."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, as the file says."""

    keepalive_s: float
    warntime_s: float
    deadtime_s: float

    @property
    def tolerance_s(self) -> float:
        """Lateness above this is a stall of our own. One below it leaves time for another heartbeat of each peer."""
        left_s = self.deadtime_s - (self.turns + 1) * self.keepalive_s
        return max(self.deadtime_s / 4, min(self.deadtime_s / 2, left_s))

    @property
    def respite_s(self) -> float:
        """For so long after a stall of our own nobody is silent: time for two heartbeats at least."""
        return max(self.deadtime_s / 2, 2 * self.keepalive_s)

    @property
    def spare_s(self) -> float:
        """For so long a deputy has spares."""
        return max(self.deadtime_s / 4, SPARE_S)

    @property
    def grace_s(self) -> float:
        """How late we may be before a spare heartbeat goes out instead; a loop counts time in milliseconds."""
        return self.keepalive_s / 20 + 0.001

    @property
    def turns(self) -> int:
        """Every so-manieth heartbeat is sent by ourselves; those between are left to the deputy beforehand."""
        return max(int(min(ROUND_S, self.deadtime_s / 2) / self.keepalive_s + 1e-6), 1)
