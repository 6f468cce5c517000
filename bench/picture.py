"""Distributions as a picture: a row of dots for each kind of failover, on a logarithmic scale of milliseconds. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

LEFT, WIDTH, RIGHT, ROW, TOP = 110, 560, 20, 44, 46
LOWEST_MS: Final = 1.0
BINS_A_DECADE: Final = 24
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#24292f}.grid{stroke:#d0d7de}.dot{fill:#0969da;fill-opacity:.55}"
    ".limit{stroke:#cf222e;stroke-dasharray:4 3}.median{stroke:#24292f;stroke-width:2}"
)


def svg(title: str, values_ms: Mapping[str, Sequence[float]], limits_ms: Mapping[str, float]) -> str:
    """A dot a value, stacked where they fall together; a line at the median and a broken one at each limit.

    values_ms: by kind, in the order of the rows, none of them empty. Values below LOWEST_MS are drawn there.
    """
    highest = max([*(max(values) for values in values_ms.values()), *limits_ms.values(), 10.0])
    decades = math.ceil(math.log10(highest / LOWEST_MS))

    def x(ms: float) -> float:
        return LEFT + WIDTH * math.log10(max(ms, LOWEST_MS) / LOWEST_MS) / decades

    height = TOP + ROW * len(values_ms) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="10" y="18">{escape(title)}</text>',
    ]
    for decade in range(decades + 1):
        at = x(LOWEST_MS * 10**decade)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" y2="{height - 6}"/>')
        parts.append(f'<text x="{at:.1f}" y="{TOP - 12}" text-anchor="middle">{LOWEST_MS * 10**decade:g} ms</text>')
    for row, (kind, values) in enumerate(values_ms.items()):
        bottom = TOP + ROW * (row + 1) - 6
        parts += _row(kind, values, limits_ms.get(kind), bottom, x)
    return "\n".join([*parts, "</svg>", ""])


def _row(kind: str, values: Sequence[float], limit: float | None, bottom: int, x: object) -> list[str]:
    assert callable(x)
    parts = [f'<text x="10" y="{bottom - 8}">{escape(kind)}</text>']
    parts.append(f'<line class="grid" x1="{LEFT}" y1="{bottom}" x2="{LEFT + WIDTH}" y2="{bottom}"/>')
    bins = Counter(round(math.log10(max(value, LOWEST_MS)) * BINS_A_DECADE) for value in values)
    step = min(5.0, (ROW - 12) / max(bins.values()))
    for place, count in sorted(bins.items()):
        at = x(10 ** (place / BINS_A_DECADE))
        parts += [f'<circle class="dot" cx="{at:.1f}" cy="{bottom - 3 - n * step:.1f}" r="2.5"/>' for n in range(count)]
    marks = [("median", sorted(values)[len(values) // 2])] + ([("limit", limit)] if limit else [])
    for name, ms in marks:
        parts.append(f'<line class="{name}" x1="{x(ms):.1f}" y1="{bottom - ROW + 12}" x2="{x(ms):.1f}" y2="{bottom}"/>')
    return parts
