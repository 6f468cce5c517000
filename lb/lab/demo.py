"""The main job, shown on this machine: what `script/demo` runs.

Raises the cluster of conf/cluster.toml in network namespaces, lets a web server fail, then cuts the power of the active
director under a download, and says what clients saw of it. Takes everything down again, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from lb import config
from lb.cli.output import err, out
from lb.errors import LbctlError
from lb.lab import observe
from lb.lab.observe import Seen, Traffic
from lb.model import Cluster, Real

CONF = Path("conf/cluster.toml")
REQUESTS = 100
FAULT_S = 8.0


class Demo:
    """The acts, in order. Each says what it does before it does it, and what was seen after."""

    def __init__(self, cluster: Cluster) -> None:
        self._conf = str(cluster.path)
        self._web = cluster.virtuals[0]
        self._nodes = [node.name for node in cluster.nodes]
        self._url = f"http://{self._web.address}/"

    def play(self) -> None:
        """All acts."""
        self._raise()
        try:
            self._balance()
            self._lose_a_web_server(self._web.reals[0])
            self._lose_the_director()
        finally:
            self._act("Taking it down")
            out.print(observe.lbctl("lab", "down", self._conf).strip())

    def _raise(self) -> None:
        self._act(f"Raising the five hosts of {CONF} in network namespaces, lbctl on both directors")
        started = time.monotonic()
        self._busy("compiling, attaching, first checks", "lab", "up", self._conf)
        with err.status("waiting for the standby to be in sync"):
            observe.wait_until("the pair is whole", self._is_whole)
        out.print(observe.lbctl("lab", "status", self._conf).rstrip())
        self._say(f"up after {time.monotonic() - started:.1f} s")

    def _balance(self) -> None:
        self._act(f"{REQUESTS} requests from the client to {self._url}")
        self._say(f"answered by: {self._answers(REQUESTS)}")
        self._show("status", "--node", self._active())
        self._show("list", "--node", self._active())

    def _lose_a_web_server(self, real: Real) -> None:
        name, address = self._web.real_name(real), str(real.address)
        self._act(f"Stopping nginx on {name}")
        observe.lbctl("lab", "nginx", name, "stop")
        stopped = time.monotonic()
        observe.wait_until(f"{name} is down", lambda: observe.health(self._active())[address] == "down")
        self._say(f"out of service after {time.monotonic() - stopped:.1f} s; now answered by: {self._answers(20)}")
        observe.lbctl("lab", "nginx", name, "start")
        observe.wait_until(f"{name} is up", lambda: observe.health(self._active())[address] == "up")
        self._say(f"nginx started again; answered by: {self._answers(20)}")

    def _lose_the_director(self) -> None:
        victim = self._active()
        heir = next(node for node in self._nodes if node != victim)
        self._act(f"Cutting the power of {victim}, the active director, while the client downloads 32 MiB")
        watching = err.status(f"download and a new connection every 10 ms, for {FAULT_S:g} s")
        with watching, Traffic(self._web.address, FAULT_S) as traffic:
            observe.lbctl("lab", "kill", victim)
            observe.wait_until(f"{heir} is active", lambda: observe.role(heir) == "active")
        self._judge(traffic.seen)
        self._show("status", "--node", heir)

    def _judge(self, seen: Seen) -> None:
        download = "[green]went on, every byte right[/]" if seen.download_ok else "[red]broke[/]"
        self._say(f"the download {download}")
        self._say(f"new connections: {seen.failures} of {seen.attempts} failed, all within {seen.outage_ms:.0f} ms")
        if not seen.download_ok:
            raise LbctlError("a connection was lost: this must not be; please report it with the lab's logs")

    def _is_whole(self) -> bool:
        return observe.is_settled(*self._nodes)

    def _active(self) -> str:
        return next((node for node in self._nodes if observe.role(node) == "active"), self._nodes[0])

    def _answers(self, count: int) -> str:
        with err.status("asking"):
            answered: Counter[str] = observe.answers(count, self._url)
        return ", ".join(f"{host} {times}" for host, times in sorted(answered.items()))

    def _busy(self, what: str, *words: str) -> None:
        with err.status(what):
            observe.lbctl(*words)

    def _show(self, *words: str) -> None:
        out.print(f"[dim]$ lbctl {' '.join(words)}[/]")
        out.print(observe.lbctl(*words).rstrip(), markup=False)

    @staticmethod
    def _act(title: str) -> None:
        out.print(f"\n[bold cyan]==>[/] [bold]{title}[/]")

    @staticmethod
    def _say(line: str) -> None:
        out.print(f"    {line}")


def main() -> None:
    """Entry point."""
    argparse.ArgumentParser(prog="script/demo", description=__doc__.split("\n\n")[0]).parse_args()
    try:
        Demo(config.load(CONF)).play()
    except KeyboardInterrupt:
        sys.exit(130)
    except LbctlError as error:
        err.print(f"[red]{error}[/]")
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
