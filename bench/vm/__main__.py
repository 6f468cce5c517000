"""Boot a guest and compare: `python -m bench.vm packets [--kernel 6.1]`. Prints a table, or with --json numbers."""

from __future__ import annotations

import argparse
import json
import sys

from tests.vm import guest, kernels


def packets(version: str) -> dict[str, dict[str, float]]:
    """Instructions a packet by way and kind of connection; see bench.vm.packets."""
    kernel = kernels.fetch(version)
    command = [sys.executable, "-m", "bench.vm.packets"]
    outcome = guest.run(kernel, command, cards=4, count_instructions=True, limit_s=1800)
    if outcome.status != 0:
        sys.exit(f"the guest's bench ended with {outcome.status}:\n{outcome.output}\n{outcome.console[-2000:]}")
    found: dict[str, dict[str, float]] = json.loads(outcome.output.splitlines()[-1])
    return found


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
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.vm", description=__doc__)
    parser.add_argument("what", choices=["packets"])
    parser.add_argument("--kernel", choices=kernels.SUITES, default="6.1", help="Debian's kernel of that version")
    parser.add_argument("--json", action="store_true", help="the numbers as they came")
    options = parser.parse_args()
    found = packets(options.kernel)
    print(json.dumps(found, indent=1) if options.json else table(found))


if __name__ == "__main__":
    main()
