"""What failovers came to: one run each, of what clients noticed, and all of them as a table and in docs/failover.md."""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import clients, picture
from lb.cli.output import print_table
from lb.errors import LbctlError

DOCS = Path(__file__).parents[1] / "docs"
YOUNG_S = 2.0
"""A connection that was lost sooner after it was opened is a young one."""
NEWBORN_S = 0.01
"""One that was opened so shortly before its director was out of reach that nobody could be told of it in time."""


@dataclass(frozen=True, slots=True)
class Run:
    """One failover. Times in milliseconds; the fault happened between fault_s and done_s of CLOCK_MONOTONIC.

    setting: what all runs of a table have in common.
    outage_ms: the longest time in which no new connection was served. late_ms: by how much the prober itself was late
    at most; an outage may include it. stall_ms: for which a download stood still, 0 for less than clients.STALL_MS.
    downloads, uploads: lost. young_s: when connections were opened that were lost within two seconds, from fault_s.
    whole_s: from the fault until the pair was whole.
    """

    setting: str
    kind: str
    was: str
    now: str
    outage_ms: float
    limit_ms: float
    late_ms: float
    stall_ms: float
    downloads: int
    uploads: int
    opened: int
    young_s: list[float]
    done_s: float
    whole_s: float

    @property
    def bad(self) -> bool:
        """Is there something that ought not to be?"""
        return bool(self.downloads or self.uploads or self.young > self.newborn or self.outage_ms > self.limit_ms)

    @property
    def young(self) -> int:
        """Young ones lost, the newborn with them."""
        return len(self.young_s)

    @property
    def newborn(self) -> int:
        """Of them, those that only the director could know that was out of reach then: dead, or cut off from clients;
        or, in a partition, cut off from the one that took over until limit_ms."""
        from_s, to_s = {
            "power cut": (-NEWBORN_S, self.done_s),
            "link down": (-NEWBORN_S, self.done_s),
            "partition": (0.0, self.limit_ms / 1000),
        }.get(self.kind, (0.0, -1.0))
        return sum(from_s <= opened_s <= to_s for opened_s in self.young_s)


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done, before it is known what clients noticed. Seconds of CLOCK_MONOTONIC."""

    kind: str
    was: str
    now: str
    fault_s: float
    done_s: float
    whole_s: float


class Noticed:
    """What clients noticed while there were faults, one after the other."""

    def __init__(self, faults: Sequence[Fault], load: dict[str, Any], probed: dict[str, Any]) -> None:
        self._begins = [fault.fault_s for fault in faults]
        self._load, self._probed = load, probed

    def _within(self, number: int, at_s: float) -> bool:
        """Is this fault the last one before that moment? The first one also of what was before it."""
        return max(bisect.bisect_right(self._begins, at_s) - 1, 0) == number

    def longest_ms(self, number: int, found: Sequence[Sequence[float]]) -> float:
        """Of (when it began, milliseconds), those that go on after this fault and begin before the next."""
        return max((ms for at_s, ms in found if self._within(number, at_s + ms / 1000)), default=0.0)

    def run(self, number: int, fault: Fault, setting: str, limit_ms: float) -> Run:
        """All of one fault."""
        lost = [
            (way, opened_s)
            for way, opened_s, on_s in self._load["lost"]
            if self._within(number, on_s + 2 * clients.PACE_S)
        ]
        old = [way for way, opened_s in lost if opened_s < fault.fault_s - YOUNG_S]
        young = [opened_s for _, opened_s in lost if opened_s >= fault.fault_s - YOUNG_S]
        young += [opened_s for opened_s, used_s in self._load["lost_s"] if self._within(number, used_s)]
        return Run(
            setting=setting,
            kind=fault.kind,
            was=fault.was,
            now=fault.now,
            outage_ms=self.longest_ms(number, self._probed["outages"]),
            limit_ms=limit_ms,
            late_ms=self.longest_ms(number, self._probed["lates"]),
            stall_ms=self.longest_ms(number, self._load["stalls"]),
            downloads=old.count("downloads"),
            uploads=old.count("uploads"),
            opened=sum(self._within(number, opened_s) for opened_s in self._load["opened_s"]),
            young_s=[round(opened_s - fault.fault_s, 3) for opened_s in young],
            done_s=round(fault.done_s - fault.fault_s, 3),
            whole_s=round(fault.whole_s - fault.fault_s, 1),
        )


COLUMNS = (
    "kind",
    "runs",
    "downloads",
    "uploads",
    "young",
    "newborn",
    "median",
    "p90",
    "p99",
    "max",
    "limit",
    "over",
    "stall max",
)


def report(runs: Sequence[Run], transfers: int) -> None:
    """The table."""
    opened = sum(run.opened for run in runs)
    load = f"{transfers} downloads, {transfers} uploads, {opened // len(runs)} young connections"
    title = f"lost of {load} a run; outage of new connections and longest stall of a download in ms"
    print_table(COLUMNS, table(runs), title)


def table(runs: Sequence[Run]) -> list[tuple[object, ...]]:
    """A row a kind."""
    return [_row(name, [run for run in runs if run.kind == name]) for name in _kinds(runs)]


def _kinds(runs: Sequence[Run]) -> list[str]:
    """In the order in which they came first."""
    return list(dict.fromkeys(run.kind for run in runs))


def _row(name: str, runs: Sequence[Run]) -> tuple[object, ...]:
    outages = [run.outage_ms for run in runs]
    return (
        name,
        len(runs),
        sum(run.downloads for run in runs),
        sum(run.uploads for run in runs),
        sum(run.young - run.newborn for run in runs),
        sum(run.newborn for run in runs),
        *(round(float(np.percentile(outages, part))) for part in (50, 90, 99, 100)),
        round(runs[0].limit_ms),
        sum(run.outage_ms > run.limit_ms for run in runs),
        round(max(run.stall_ms for run in runs)),
    )


def document(runs: Sequence[Run], command: str) -> None:
    """Put the table and the pictures into docs/failover.md, between its marks."""
    for name, title in (("outage", "outage of new connections"), ("stall", "longest stall of a download")):
        values = {kind: [getattr(r, f"{name}_ms") for r in runs if r.kind == kind] for kind in _kinds(runs)}
        limits = {run.kind: run.limit_ms for run in runs} if name == "outage" else {}
        (DOCS / f"failover-{name}.svg").write_text(picture.svg(title, values, limits))
    rows = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    rows += ["| " + " | ".join(map(str, row)) + " |" for row in table(runs)]
    text = "\n".join(
        [*(f"`{command}`", "", *rows, ""), "![](failover-outage.svg)", "", "![](failover-stall.svg)"],
    )
    page = DOCS / "failover.md"
    old = page.read_text()
    page.write_text(re.sub(r"(?s)(<!-- measured -->\n).*?(\n<!-- end measured -->)", lambda m: m[1] + text + m[2], old))


def line(number: int, total: int, run: Run) -> str:
    """One run in words."""
    late = " (too long)" if run.outage_ms > run.limit_ms else ""
    words = [f"{run.kind}: {run.was} → {run.now}, outage {run.outage_ms:.0f} ms{late}"]
    words.append(f"the prober was late by up to {run.late_ms:.0f} ms")
    words.append(f"downloads stood still for {run.stall_ms:.0f} ms")
    if run.downloads or run.uploads:
        words.append(f"{run.downloads} downloads and {run.uploads} uploads lost")
    if run.young_s:
        words.append(f"{run.young} of {run.opened} young connections lost, {run.newborn} of them newborn")
    return f"{number}/{total}  {', '.join(words)}"


def earlier(path: Path | None, setting: str) -> list[Run]:
    """The runs that a file has. Raises LbctlError if they cannot be in one table with those of this setting."""
    if path is None or not path.exists():
        return []
    try:
        runs = [Run(**row) for row in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        raise LbctlError(f"{path} has no runs of this program: {error}; name another file") from None
    if others := {run.setting for run in runs} - {setting}:
        raise LbctlError(f"{path} has runs with {others.pop()}; these are with {setting}: name another file")
    return runs
