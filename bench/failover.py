"""Failovers of every kind in the lab of conf/cluster.toml, under load: what clients notice of them.

    python -m bench.failover --runs 10
    python -m bench.failover --runs 100 --kind 'power cut' --json build/bench/failover.json
    python -m bench.failover --runs 100 --keepalive 50ms --deadtime 200ms --transfers 1000 --rate 16 --docs

Each run begins with a whole pair and lets the active director go in some way; it ends with a whole pair again. All the
while transfers are under way (`bench.clients`), which last over many runs, and a prober opens a connection every 10 ms
(`lb.lab.prober`); both are begun anew each minute. What they notice counts for the run whose fault was the last.

Runs are added to those that the file of --json has, and the table is of all: it may be made in parts. The lab is
taken down at the end, also after Ctrl-C. Exit status 1: something was lost, late, or did not heal. --docs puts the
table and two pictures into docs/failover.md.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from bench import clients
from bench.outcomes import YOUNG_S, Fault, Noticed, Run, document, earlier, line, report
from ha import authkeys
from lb import client, config
from lb.cli.output import err
from lb.errors import LabError, LbctlError
from lb.lab import control, observe
from lb.lab import state as labs
from lb.model import Cluster

CONF = Path(__file__).parents[1] / "conf" / "cluster.toml"
CLIENTS = Path(clients.__file__)
LOAD_S = 60.0
"""Of clients, between two breaks in which what they have noticed is gathered."""
REST_S = 0.5
"""Before a fault; until then whoever was late has caught up."""
HEAL_AFTER_S = 0.5
"""For how long a freeze or a cut cable goes on after the other has taken over."""
WHOLE_S = 60.0
ROLE_S = 30.0
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


def _lab() -> labs.Lab:
    found = labs.find(config.load(CONF).cluster.name)
    assert found
    return found


def _pid(node: str) -> int:
    """Of a director's process."""
    hosts = control.status(_lab())["hosts"]
    (pid,) = (p["pid"] for h in hosts if h["name"] == node for p in h["processes"] if p["service"] == "lbctl")
    return int(pid)


Change = Callable[[str, str], object]
"""Called with the active and the standby. None starts a Python of its own meanwhile, as `lbctl` would: clients would
be late for it."""


def _send(number: signal.Signals) -> Change:
    return lambda active, _: os.kill(_pid(active), number)


def _ports(*words: str, both: bool = False) -> Change:
    """Set something of the active's port of the switch, or of both directors'."""
    switch = f"lbctl-switch-{config.load(CONF).cluster.name}"

    def change(active: str, standby: str) -> None:
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
    "power cut": Kind(lambda active, _: control.kill(active), silent=True),
    "freeze": Kind(_send(signal.SIGSTOP), _send(signal.SIGCONT), silent=True),
    "link down": Kind(_ports("down"), _ports("up"), silent=True),
    "partition": Kind(
        _ports("type", "bridge_slave", "isolated", "on", both=True),
        _ports("type", "bridge_slave", "isolated", "off", both=True),
        silent=True,
    ),
    "kill -9": Kind(_send(signal.SIGKILL)),
    "SIGTERM": Kind(_send(signal.SIGTERM)),
    "down": Kind(lambda active, _: client.call(active, "POST", "/down")),
    "standby": Kind(lambda active, _: client.call(active, "POST", "/standby", ROLE_S)),
    "takeover": Kind(lambda _, standby: client.call(standby, "POST", "/takeover", ROLE_S)),
}

ENDING = ("SIGTERM", "down")
"""After these a director goes on for a moment."""


# ------------------------------------------------------------------------------------------------------ runs


class Bench:
    """The lab while it is up, and runs in it."""

    def __init__(self, cluster: Cluster, transfers: int, rate: int) -> None:
        self._cluster = cluster
        self._transfers, self._rate = transfers, rate
        self._address = str(cluster.virtuals[0].address)
        self._nodes = [node.name for node in cluster.nodes]
        ha = cluster.ha
        self.setting = (
            f"keepalive {ha.keepalive:g} s, deadtime {ha.deadtime:g} s, {transfers} each way of {rate} bytes/s"
        )

    @contextlib.contextmanager
    def lab(self) -> Iterator[None]:
        """Up; down at the end, whatever happens."""
        try:
            self._mend()
            yield
        finally:
            observe.lbctl("lab", "down", str(self._cluster.path))

    def runs(self, kinds: Sequence[str], done: Callable[[str], object]) -> list[Run]:
        """As many of these kinds, in this order, as fit into LOAD_S; done is called with each.

        Raises LabError if the pair does not become whole after one.
        """
        faults: list[Fault] = []
        with self._load() as processes:
            ends_s = time.monotonic() + LOAD_S
            for name in kinds:
                if time.monotonic() > ends_s:
                    break
                time.sleep(REST_S)
                faults.append(self._fail(name))
                done(name)
            time.sleep(YOUNG_S)
            for process in processes:
                process.send_signal(signal.SIGTERM)
            load, probed = (json.loads(process.communicate(timeout=60)[0]) for process in processes)
        damaged = self._damaged(load["uploads"])
        noticed = Noticed(faults, load, probed)
        limits_ms = [
            self._cluster.ha.deadtime * 1000 + SLACK_MS if KINDS[f.kind].silent else ORDERLY_MS for f in faults
        ]
        runs = [noticed.run(n, fault, self.setting, limits_ms[n]) for n, fault in enumerate(faults)]
        return [replace(runs[0], uploads=runs[0].uploads + damaged), *runs[1:]]

    def _fail(self, name: str) -> Fault:
        kind = KINDS[name]
        active = next(node for node in self._nodes if self._status(node).get("role") == "active")
        standby = next(node for node in self._nodes if node != active)
        fault_s = time.monotonic()
        kind.fault(active, standby)
        done_s = time.monotonic()
        observe.wait_until(f"{name}: {standby} is active", lambda: self._status(standby).get("role") == "active")
        if kind.heal:
            time.sleep(HEAL_AFTER_S)
            kind.heal(active, standby)
        if name in ENDING:
            observe.wait_until(f"{name}: {active} has ended", lambda: not self._status(active), WHOLE_S)
        self._mend()
        now = next(node for node in self._nodes if self._status(node).get("role") == "active")
        return Fault(name, active, now, fault_s, done_s, time.monotonic())

    @contextlib.contextmanager
    def _load(self) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
        most_s = str(2 * LOAD_S + WHOLE_S)
        words = (str(CLIENTS), self._address, "--transfers", str(self._transfers), "--rate", str(self._rate))
        load = self._spawn(*words, "--seconds", most_s)
        running = [load]
        try:
            assert load.stdout is not None
            if not load.stdout.readline():
                raise LabError("the clients did not begin; what they complained of is above")
            prober = self._spawn("-m", "lb.lab.prober", f"http://{self._address}/", "--seconds", most_s)
            running.append(prober)
            yield load, prober
        finally:
            for process in running:
                process.kill()
                process.communicate()

    def _spawn(self, *words: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", _lab().topology.client.namespace, sys.executable, *words]
        environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # else what is longer than a pipe may be cut off
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=environment)

    def _damaged(self, uploads: Mapping[str, int]) -> int:
        """Of so many no real holds what was sent, once and whole, though it said so."""
        expected = clients.content(max(uploads.values(), default=0))
        folders = [Path(host["disk"]) / "www" / "upload" for host in control.status(_lab())["hosts"]]
        damaged = 0
        for name, size in uploads.items():
            found = [path.read_bytes() for folder in folders if (path := folder / name).exists()]
            damaged += found != [expected[:size]]
        for folder in folders:
            for path in folder.glob("*"):
                path.unlink()
        return damaged

    def _mend(self) -> None:
        try:
            observe.wait_until("the pair is whole", self._is_whole, WHOLE_S)
        except LabError as error:
            seen = {node: self._status(node) for node in self._nodes}
            parts = ("role", "sync", "warnings")
            told = {node: [found.get(part) for part in parts] for node, found in seen.items()}
            virtuals = [virtual for found in seen.values() for virtual in found.get("virtuals", ())]
            health = [real["health"] for virtual in virtuals for real in virtual["reals"]]
            raise LabError(f"{error}: {told}, reals {health}") from None

    def _is_whole(self) -> bool:
        """As `observe.is_settled`. Starts again who does not run; who is just ending is found not to the next time."""
        documents = [self._status(node) for node in self._nodes]
        if not all(documents):
            control.up(self._cluster, False, authkeys.generate, lambda _: None)
            return False
        return sorted(document["role"] for document in documents) == ["active", "standby"] and all(
            document["sync"]["state"] == "in-sync"
            and {real["health"] for virtual in document["virtuals"] for real in virtual["reals"]} == {"up"}
            for document in documents
        )

    @staticmethod
    def _status(node: str) -> dict[str, Any]:
        """Straight from the director; empty while none runs."""
        try:
            document: dict[str, Any] = client.call(node, "GET", "/status", timeout_s=2.0)
        except LbctlError:
            return {}
        return document


def measure(bench: Bench, kinds: Sequence[str], count: int, keep: Callable[[Sequence[Run]], Any]) -> list[Run]:
    """All runs, the kinds by turns, there and back, so that each befalls both directors; keep is called with some."""
    order = [name for turn in range(count) for name in (kinds if turn % 2 == 0 else reversed(kinds))]
    runs: list[Run] = []
    with bench.lab(), Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("failovers", total=len(order))

        def done(name: str) -> None:
            progress.update(task, description=name)
            progress.advance(task)

        while len(runs) < len(order):
            more = bench.runs(order[len(runs) :], done)
            for run in more:
                runs.append(run)
                progress.console.print(line(len(runs), len(order), run), markup=False)
            keep(more)
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
    parser.add_argument("--json", type=Path, help="add every run to those of this file, and show all")
    parser.add_argument("--docs", action="store_true", help="put all results into docs/failover.md")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    with tempfile.TemporaryDirectory(prefix="lbctl-failover-") as directory:
        try:
            cluster = config.load(timed(Path(directory), given.keepalive, given.deadtime))
            bench = Bench(cluster, given.transfers, given.rate << 10)
            runs = earlier(given.json, bench.setting)

            def keep(more: Sequence[Run]) -> None:
                runs.extend(more)
                if given.json:
                    given.json.parent.mkdir(parents=True, exist_ok=True)
                    given.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))

            measure(bench, given.kind or list(KINDS), given.runs, keep)
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
