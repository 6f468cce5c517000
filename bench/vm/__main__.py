"""Boot a guest and compare: `python -m bench.vm packets`, `python -m bench.vm failover`. Prints a table, or with --json
numbers; of failovers, --pictures draws each kind."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import picture
from tests.vm import guest, kernels


def packets(version: str) -> Any:
    """Instructions a packet by way and kind of connection; see bench.vm.packets."""
    kernel = kernels.fetch(version)
    command = [sys.executable, "-m", "bench.vm.packets"]
    return _last_line(guest.run(kernel, command, cards=[guest.Card()] * 4, count_instructions=True, limit_s=1800))


def failovers(version: str, arguments: Sequence[str]) -> Any:
    """Each of them; see bench.vm.failover, whose options these are.

    The guest's clock counts instructions: an emulated CPU that keeps to this machine's time is too slow for heartbeats
    every 10 ms, and as unsteady as whatever else the machine does.
    """
    command = ["sh", "-c", 'modprobe ip_vs; exec "$@"', "sh", sys.executable, "-m", "bench.vm.failover", *arguments]
    return _last_line(guest.run(kernels.fetch(version), command, count_instructions=True, limit_s=14_400))


def _last_line(outcome: guest.Outcome) -> Any:
    if outcome.status != 0:
        sys.exit(f"the guest's bench ended with {outcome.status}:\n{outcome.output}\n{outcome.console[-2000:]}")
    return json.loads(outcome.output.splitlines()[-1])


def table_of_failovers(found: Sequence[Mapping[str, Any]]) -> str:
    """As Markdown: median and range of the outage in ms, by how much the prober was late, how many downloads ended
    whole, false takeovers."""
    lines = [
        "| fault | way | outage ms | prober late, ms | downloads whole | false takeovers |",
        "|---|---|---|---|---|---|",
    ]
    for (fault, way), runs in _grouped(found).items():
        outages = [run["outage_ms"] for run in runs]
        cells = [
            f"{statistics.median(outages):.0f} ({min(outages):.0f} to {max(outages):.0f})",
            f"{statistics.median(run['late_ms'] for run in runs):.0f}",
            f"{sum(run['download'] for run in runs)} of {len(runs)}",
            f"{sum(run['false_takeovers'] for run in runs)}",
        ]
        lines.append(f"| {fault} | {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """A picture of each fault, a row a way."""
    values: dict[str, dict[str, list[float]]] = {}
    for (fault, way), runs in _grouped(found).items():
        values.setdefault(fault, {})[way] = [run["outage_ms"] for run in runs]
    for fault, ways in values.items():
        name = fault.replace(" -", "-").replace(" ", "-")
        (folder / f"vm-{name}.svg").write_text(picture.svg(f"{fault}: outage of new connections", ways, {}))


def _grouped(found: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in sorted(found, key=lambda run: str(run["fault"])):
        groups.setdefault((run["fault"], run["way"]), []).append(run)
    return groups


def table(found: dict[str, dict[str, float]]) -> str:
    """As Markdown: what is left without the way's own cost, and its ratio to IPVS rr."""
    direct, ipvs = found["direct"], found["IPVS rr"]
    lines = ["| way | known | of IPVS | new | of IPVS |", "|---|---|---|---|---|"]
    for name, cost in found.items():
        if name == "direct":
            continue
        cells = []
        for kind in ("known", "new"):
            net = cost[kind] - direct[kind]
            cells += [f"{net:,.0f}", f"{net / (ipvs[kind] - direct[kind]):.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line. What it does not know is for bench.vm.failover."""
    parser = argparse.ArgumentParser(prog="python -m bench.vm", description=__doc__)
    parser.add_argument("what", choices=["packets", "failover"])
    parser.add_argument("--kernel", choices=kernels.SUITES, default="6.1", help="Debian's kernel of that version")
    parser.add_argument("--json", action="store_true", help="the numbers as they came")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="failover: put pictures there")
    options, others = parser.parse_known_args()
    if options.what == "packets":
        found = packets(options.kernel)
        text = table(found)
    else:
        found = failovers(options.kernel, others)
        text = table_of_failovers(found)
        if options.pictures:
            draw(found, options.pictures)
    print(json.dumps(found, indent=1) if options.json else text)


if __name__ == "__main__":
    main()
