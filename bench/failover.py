"""Failovers of every kind in the lab of conf/cluster.toml, under load: what clients notice of them.

    python -m bench.failover --runs 10
    python -m bench.failover --runs 100 --kind 'power cut' --json build/bench/failover.json
    python -m bench.failover --runs 100 --keepalive 50ms --deadtime 200ms --transfers 1000 --rate 16 --docs

Each run begins with a whole pair and lets the active director go in some way, while transfers are under way
(`bench.clients`) and a prober opens a connection every 10 ms (`lb.lab.prober`); it ends with a whole pair again. The
lab is taken down at the end, also after Ctrl-C. Exit status 1: something was lost, late, or did not heal. --docs puts
the table and two pictures into docs/failover.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from bench import clients, picture
from lb import api, config
from lb.cli.output import err, print_table
from lb.errors import LabError, LbctlError
from lb.lab import observe
from lb.model import Cluster

CONF = Path(__file__).parents[1] / "conf" / "cluster.toml"
DOCS = Path(__file__).parents[1] / "docs"
CLIENTS = Path(clients.__file__)
LOAD_S = 5.0
INTO_LOAD_S = 0.7
"""Into the middle of the transfers; until then whoever was late has caught up."""
HEAL_AFTER_S = 1.0
"""For how long a freeze or a cut cable goes on after the other has taken over."""
WHOLE_S = 30.0
SLACK_MS = 100.0
"""What a failover may take beyond deadtime where only silence tells."""
ORDERLY_MS = 20.0
"""What it may take where the other is told, or sees a process end."""


# ----------------------------------------------------------------------------------------------- ways to go


def timed(directory: Path, keepalive: str | None, deadtime: str | None) -> Path:
    """The demo's configuration with these timings, in a directory."""
    text = CONF.read_text()
    for key, value in (("keepalive", keepalive), ("deadtime", deadtime)):
        if value:
            text = re.sub(rf'(?m)^{key} = "[^"]*"', f'{key} = "{value}"', text)
    if keepalive or deadtime:
        text = re.sub(r"(?m)^warntime = .*$", "", text)
    path = directory / CONF.name
    path.write_text(text)
    return path


def _pid(conf: Path, node: str) -> int:
    """Of a director's process."""
    hosts = json.loads(observe.lbctl("lab", "status", str(conf), "--json"))["labs"][0]["hosts"]
    (pid,) = (p["pid"] for h in hosts if h["name"] == node for p in h["processes"] if p["service"] == "lbctl")
    return int(pid)


Change = Callable[[Path, str, str], object]
"""Called with the configuration, the active and the standby."""


def _send(number: signal.Signals) -> Change:
    return lambda conf, active, _: os.kill(_pid(conf, active), number)


def _ports(*words: str, both: bool = False) -> Change:
    """Set something of the active's port of the switch, or of both directors'."""
    switch = f"lbctl-switch-{config.load(CONF).cluster.name}"

    def change(_: Path, active: str, standby: str) -> None:
        for node in (active, standby) if both else (active,):
            subprocess.run(["ip", "-n", switch, "link", "set", node, *words], check=True)

    return change


@dataclass(frozen=True, slots=True)
class Kind:
    """A way in which the active goes, and how that ends while clients are still there.

    silent: only silence tells the other.
    """

    fault: Change
    heal: Change | None = None
    silent: bool = False


KINDS = {
    "power cut": Kind(lambda _, active, __: observe.lbctl("lab", "kill", active), silent=True),
    "freeze": Kind(_send(signal.SIGSTOP), _send(signal.SIGCONT), silent=True),
    "link down": Kind(_ports("down"), _ports("up"), silent=True),
    "partition": Kind(
        _ports("type", "bridge_slave", "isolated", "on", both=True),
        _ports("type", "bridge_slave", "isolated", "off", both=True),
        silent=True,
    ),
    "kill -9": Kind(_send(signal.SIGKILL)),
    "SIGTERM": Kind(_send(signal.SIGTERM)),
    "down": Kind(lambda _, active, __: observe.lbctl("down", "--node", active)),
    "standby": Kind(lambda _, active, __: observe.lbctl("standby", "--node", active)),
    "takeover": Kind(lambda _, __, standby: observe.lbctl("takeover", "--node", standby)),
}


# ------------------------------------------------------------------------------------------------------ runs


@dataclass(frozen=True, slots=True)
class Run:
    """One failover. Times in milliseconds; the fault happened between fault_s and done_s of CLOCK_MONOTONIC.

    outage_ms: the longest time in which no new connection was served. late_ms: by how much the prober itself was late
    at most; an outage may include it. stall_ms: for which a download stood still.
    downloads, uploads: lost. young_s: when connections were opened that were lost within two seconds, from fault_s.
    whole_s: until the pair was whole after the load had ended.
    """

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
        return bool(self.downloads or self.uploads or self.young_s or self.outage_ms > self.limit_ms)


class Bench:
    """The lab while it is up, and runs in it."""

    def __init__(self, cluster: Cluster, transfers: int, rate: int) -> None:
        self._cluster, self._conf = cluster, cluster.path
        self._transfers, self._rate = transfers, rate
        self._address = str(cluster.virtuals[0].address)
        self._nodes = [node.name for node in cluster.nodes]

    @contextlib.contextmanager
    def lab(self) -> Iterator[None]:
        """Up; down at the end, whatever happens."""
        observe.lbctl("lab", "up", str(self._conf))
        try:
            self._mend()
            yield
        finally:
            observe.lbctl("lab", "down", str(self._conf))

    def run(self, name: str) -> Run:
        """One failover of a kind. Raises LabError if the pair does not become whole afterwards."""
        kind = KINDS[name]
        active = next(node for node in self._nodes if self._role(node) == "active")
        standby = next(node for node in self._nodes if node != active)
        with self._load() as processes:
            time.sleep(INTO_LOAD_S)
            fault_s = time.monotonic()
            kind.fault(self._conf, active, standby)
            done_s = time.monotonic()
            observe.wait_until(f"{name}: {standby} is active", lambda: self._role(standby) == "active")
            if kind.heal:
                time.sleep(HEAL_AFTER_S)
                kind.heal(self._conf, active, standby)
            load, probed = (json.loads(process.communicate(timeout=60)[0]) for process in processes)
        ended_s = time.monotonic()
        self._mend()
        return Run(
            kind=name,
            was=active,
            now=next(node for node in self._nodes if self._role(node) == "active"),
            outage_ms=probed["outage_ms"],
            limit_ms=self._cluster.ha.deadtime * 1000 + SLACK_MS if kind.silent else ORDERLY_MS,
            late_ms=probed["late_ms"],
            stall_ms=round(load["stall_ms"], 1),
            downloads=self._transfers - len(load["downloads"]),
            uploads=self._transfers - self._arrived(load["uploads"]),
            opened=load["opened"],
            young_s=[round(opened_s - fault_s, 3) for opened_s in load["lost_s"]],
            done_s=round(done_s - fault_s, 3),
            whole_s=round(time.monotonic() - ended_s, 1),
        )

    @contextlib.contextmanager
    def _load(self) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
        seconds = ("--seconds", str(LOAD_S))
        words = (str(CLIENTS), self._address, *seconds, "--transfers", str(self._transfers), "--rate", str(self._rate))
        load = observe.spawn_in("client", sys.executable, *words)
        running = [load]
        try:
            assert load.stdout is not None
            if not load.stdout.readline():
                raise LabError("the clients did not begin; what they complained of is above")
            url = f"http://{self._address}/"
            prober = observe.spawn_in("client", sys.executable, "-m", "lb.lab.prober", url, *seconds)
            running.append(prober)
            yield load, prober
        finally:
            for process in running:
                process.kill()
                process.communicate()

    def _arrived(self, uploads: Sequence[str]) -> int:
        """Of so many a real holds what was sent, once and whole."""
        expected = clients.content(int(self._rate * LOAD_S))
        hosts = json.loads(observe.lbctl("lab", "status", str(self._conf), "--json"))["labs"][0]["hosts"]
        folders = [Path(host["disk"]) / "www" / "upload" for host in hosts]
        arrived = 0
        for name in uploads:
            found = [path.read_bytes() for folder in folders if (path := folder / name).exists()]
            arrived += found == [expected]
        for folder in folders:
            for path in folder.glob("*"):
                path.unlink()
        return arrived

    def _mend(self) -> None:
        observe.lbctl("lab", "up", str(self._conf))
        observe.wait_until("the pair is whole", lambda: observe.is_settled(*self._nodes), WHOLE_S)

    @staticmethod
    def _role(node: str) -> str:
        """Straight from the director: `lbctl status` would take the processor from those who are measured."""
        try:
            return str(api.call(node, "GET", "/status", timeout_s=2.0)["role"])
        except LbctlError:
            return ""


# ---------------------------------------------------------------------------------------------------- results


COLUMNS = ("kind", "runs", "downloads", "uploads", "young", "median", "p90", "p99", "max", "limit", "over", "stall max")


def report(runs: Sequence[Run], transfers: int) -> None:
    """The table."""
    opened = sum(run.opened for run in runs)
    load = f"{transfers} downloads, {transfers} uploads, {opened // len(runs)} young connections"
    title = f"lost of {load} a run; outage of new connections and longest stall of a download in ms"
    print_table(COLUMNS, table(runs), title)


def table(runs: Sequence[Run]) -> list[tuple[object, ...]]:
    """A row a kind."""
    return [_row(name, found) for name in KINDS if (found := [run for run in runs if run.kind == name])]


def _row(name: str, runs: Sequence[Run]) -> tuple[object, ...]:
    outages = [run.outage_ms for run in runs]
    return (
        name,
        len(runs),
        sum(run.downloads for run in runs),
        sum(run.uploads for run in runs),
        sum(len(run.young_s) for run in runs),
        *(round(float(np.percentile(outages, part))) for part in (50, 90, 99, 100)),
        round(runs[0].limit_ms),
        sum(run.outage_ms > run.limit_ms for run in runs),
        round(max(run.stall_ms for run in runs)),
    )


def document(runs: Sequence[Run], command: str) -> None:
    """Put the table and the pictures into docs/failover.md, between its marks."""
    for name, title in (("outage", "outage of new connections"), ("stall", "longest stall of a download")):
        values = {kind: [getattr(r, f"{name}_ms") for r in runs if r.kind == kind] for kind in KINDS}
        values = {kind: found for kind, found in values.items() if found}
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


def _line(number: int, total: int, run: Run) -> str:
    late = " (too long)" if run.outage_ms > run.limit_ms else ""
    words = [f"{run.kind}: {run.was} → {run.now}, outage {run.outage_ms:.0f} ms{late}"]
    words.append(f"the prober was late by up to {run.late_ms:.0f} ms")
    words.append(f"downloads stood still for {run.stall_ms:.0f} ms")
    if run.downloads or run.uploads:
        words.append(f"{run.downloads} downloads and {run.uploads} uploads lost")
    if run.young_s:
        words.append(f"{len(run.young_s)} of {run.opened} young connections lost")
    return f"{number}/{total}  {', '.join(words)}"


def measure(bench: Bench, kinds: Sequence[str], count: int, keep: Callable[[Sequence[Run]], Any]) -> list[Run]:
    """All runs, the kinds by turns, there and back, so that each befalls both directors; keep is called after each."""
    order = [name for turn in range(count) for name in (kinds if turn % 2 == 0 else reversed(kinds))]
    runs: list[Run] = []
    with bench.lab(), Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("failovers", total=len(order))
        for name in order:
            progress.update(task, description=name)
            runs.append(bench.run(name))
            progress.console.print(_line(len(runs), len(order), runs[-1]), markup=False)
            progress.advance(task)
            keep(runs)
    return runs


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="bench.failover", description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=10, help="of each kind")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this; may be repeated")
    parser.add_argument("--keepalive", help="instead of the demo's, like 50ms")
    parser.add_argument("--deadtime", help="instead of the demo's, like 200ms")
    parser.add_argument("--transfers", type=int, default=4, help="so many downloads, and so many uploads")
    parser.add_argument("--rate", type=int, default=clients.RATE >> 10, help="KiB a second of each")
    parser.add_argument("--json", type=Path, help="write every run here")
    parser.add_argument("--docs", action="store_true", help="put the results into docs/failover.md")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def keep(runs: Sequence[Run]) -> None:
        if given.json:
            given.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))

    with tempfile.TemporaryDirectory(prefix="lbctl-failover-") as directory:
        try:
            cluster = config.load(timed(Path(directory), given.keepalive, given.deadtime))
            bench = Bench(cluster, given.transfers, given.rate << 10)
            runs = measure(bench, given.kind or list(KINDS), given.runs, keep)
        except KeyboardInterrupt:
            sys.exit(130)
        except LbctlError as error:
            err.print(f"[red]{error}[/]")
            sys.exit(error.exit_status)
    report(runs, given.transfers)
    if given.docs:
        document(runs, f"python -m bench.failover {shlex.join(sys.argv[1:])}")
    sys.exit(any(run.bad for run in runs))


if __name__ == "__main__":
    main()
