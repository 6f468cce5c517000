"""Connections, packets and bytes a second of each real, from two readings of their totals. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lb.plan import Target

SAMPLE_INTERVAL_S = 2.0
"""Between readings; IPVS's estimator reads as often (net/netfilter/ipvs/ip_vs_est.c)."""

Totals = tuple[int, int, int]
"""Connections, packets, bytes."""

NONE = (0.0, 0.0, 0.0)


class Rates:
    """Keeps the last reading; `of` is the rate between the last two, and zero for what appeared since."""

    def __init__(self) -> None:
        self._totals: Mapping[Target, Totals] = {}
        self._read_s = 0.0
        self._rates: dict[Target, tuple[float, float, float]] = {}

    def read(self, totals: Mapping[Target, Totals], now_s: float) -> None:
        """Take a reading; now_s: monotonic. Totals that shrank were begun anew, and count as nothing for once."""
        elapsed_s = now_s - self._read_s
        self._rates = {
            target: tuple(max(0, now - was) / elapsed_s for now, was in zip(total, self._totals[target], strict=True))  # type: ignore[misc]
            for target, total in totals.items()
            if target in self._totals and elapsed_s > 0
        }
        self._totals, self._read_s = totals, now_s

    def of(self, target: Target) -> tuple[float, float, float]:
        """Connections, packets and bytes a second."""
        return self._rates.get(target, NONE)
