"""The cluster in machines: what its directors say, what its client gets, and load while something happens to it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lb.model import Cluster
from tests.vm.vagrant.machines import Machine, MachineError, Reach, vagrant, wait_until

WHOLE_S = 900.0
"""Until everything is well again: a machine boots meanwhile, maybe on an emulated processor."""
DOWNLOADS = 2
"""At once, so that with rr each real has one."""
DOWNLOAD_RATE = 20_000
"""Bytes a second."""
DOWNLOAD_S = 150.0
PROBE_INTERVAL_MS = 100.0
PROBE_TIMEOUT_MS = 1000.0
CONTENT = hashlib.shake_128(b"").digest(int(DOWNLOAD_RATE * DOWNLOAD_S))
PYTHON = "/opt/lbctl/bin/python"
PROBER_PID = "/run/prober.pid"


@dataclass(slots=True)
class Seen:
    """What the client saw. whole: so many of DOWNLOADS ended, byte for byte right; the others as in lb.lab.prober."""

    whole: int = 0
    outage_ms: float = 0.0
    failures: int = 0
    attempts: int = 0
    late_ms: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)


class Hosts:
    """All five. cluster: their configuration."""

    def __init__(self, cluster: Cluster, reach: Reach) -> None:
        self.cluster, self.reach = cluster, reach
        self.client = Machine("client", reach)
        self.directors = [Machine(node.name, reach) for node in cluster.nodes]
        self.reals = [Machine(str(real.name), reach) for real in cluster.virtuals[0].reals]
        self.address = str(cluster.virtuals[0].address)
        self.url = f"http://{self.address}"

    @property
    def all(self) -> list[Machine]:
        """Directors, reals, client."""
        return [*self.directors, *self.reals, self.client]

    def up(self) -> None:
        """Boot and provision them; then, with what the downloads ask for, until the cluster is whole."""
        vagrant(self.reach.log, "up", "--provider", "libvirt")
        self.reach.config.write_text(vagrant(self.reach.log, "ssh-config"))
        script = f"import hashlib, sys; sys.stdout.buffer.write(hashlib.shake_128().digest({len(CONTENT)}))"
        for real in self.reals:
            real.output(f'{PYTHON} -c "{script}" >/var/www/html/download')
        self.wait_until_whole()

    def roles(self) -> dict[str, str]:
        """By director; empty for who cannot be asked."""
        return {director.name: str(director.status().get("role", "")) for director in self.directors}

    def active(self) -> Machine:
        """The one. Raises MachineError if there are none or two."""
        roles = self.roles()
        found = [director for director in self.directors if roles[director.name] == "active"]
        if len(found) != 1:
            raise MachineError(f"one director should be active: {roles}")
        return found[0]

    def other(self, director: Machine) -> Machine:
        """Its peer."""
        return next(one for one in self.directors if one is not director)

    def wait_until_whole(self) -> float:
        """One active, the other standby and in sync, all reals up, the client served. Returns seconds."""
        last: list[str] = [""]

        def whole() -> bool:
            last[0] = self._lacks()
            return not last[0]

        try:
            return wait_until("the cluster is whole", whole, WHOLE_S)
        except MachineError as error:
            raise MachineError(f"{error}; {last[0]}") from None

    def _lacks(self) -> str:
        documents = {director.name: director.status() for director in self.directors}
        roles = {name: document.get("role", "does not run") for name, document in documents.items()}
        if sorted(roles.values()) != ["active", "standby"]:
            return f"roles {roles}"
        for name, document in documents.items():
            if (sync := document["sync"]["state"]) != "in-sync":
                return f"{name} is {sync}"
            if bad := [one["address"] for v in document["virtuals"] for one in v["reals"] if one["health"] != "up"]:
                return f"{name} does not see {', '.join(bad)} up"
        return "" if self.answers(1).keys() <= {real.name for real in self.reals} else "the client is not served"

    def answers(self, count: int) -> Counter[str]:
        """Who answered `count` requests, one after the other and each a connection of its own."""
        script = f"for i in $(seq {count}); do curl -s --max-time 5 {self.url}/ || echo nobody; done"
        return Counter(self.client.output(script, 30 + 6 * count).splitlines())

    def has_address(self, director: Machine) -> bool:
        """Does it hold the virtual address?"""
        return f" {self.address}/" in director.output("ip -o address show")

    @contextlib.contextmanager
    def load(self) -> Iterator[Seen]:
        """Downloads and a prober in the client while the body runs, and until the downloads have ended."""
        fetch = f"curl -s --limit-rate {DOWNLOAD_RATE} {self.url}/download | sha256sum"
        probe = (
            f"echo $$ >{PROBER_PID}; cd /vagrant; exec {PYTHON} -m lb.lab.prober {self.url}/ --seconds 900"
            f" --interval-ms {PROBE_INTERVAL_MS:g} --timeout-ms {PROBE_TIMEOUT_MS:g}"
        )
        seen = Seen()
        with contextlib.ExitStack() as stack:
            downloads = [stack.enter_context(_ended(self.client.spawn(fetch))) for _ in range(DOWNLOADS)]
            prober = stack.enter_context(_ended(self.client.spawn(f"rm -f {PROBER_PID}; {probe}")))
            flowing = f"test $(ss -Htn state established dst {self.address} | wc -l) -ge {DOWNLOADS}"
            wait_until("the downloads are under way", lambda: self.client.run(flowing).returncode == 0, 120)
            yield seen
            digest = hashlib.sha256(CONTENT).hexdigest()
            seen.whole = sum(one.communicate(timeout=WHOLE_S)[0].startswith(digest) for one in downloads)
            self.client.output(f"kill $(cat {PROBER_PID})")
            said, complaint = prober.communicate(timeout=60)
            try:
                probed: dict[str, Any] = json.loads(said)
            except ValueError:
                raise MachineError(f"the prober ended without a result: {complaint.strip()}") from None
            for name in ("outage_ms", "failures", "attempts", "late_ms", "answers"):
                setattr(seen, name, probed[name])


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stretched(conf: Path, factor: float) -> None:
    """Multiply the times of the directors and of the check in a configuration, in place."""
    names = "keepalive|warntime|deadtime|initdead|interval|timeout"

    def longer(found: re.Match[str]) -> str:
        amount = float(found[2]) * (1 if found[3] == "ms" else 1000) * factor
        return f'{found[1]}"{amount:g}ms"'

    conf.write_text(re.sub(rf'(?m)^((?:{names})\s*= )"([\d.]+)(ms|s)"', longer, conf.read_text()))
