"""A lab as its operator and its clients see it: everything here goes through `lbctl` and through the virtual address.

The demo, the cluster tests and the failover benchmark watch with the same eyes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from lb.addresses import Address
from lb.errors import LabError
from lb.lab.webserver import DOWNLOAD_BYTES

LBCTL = (sys.executable, "-m", "lb")
RUN_S = 900.0
"""Longer than `lab up` waits for a director, which may have to compile on an emulated CPU."""
POLL_S = 0.02
UNDER_WAY_S = 0.5
"""Into the middle of a download: the kernels' buffers are full by then and the rate limit holds."""

DOWNLOAD_DIGEST = hashlib.sha256(hashlib.shake_128(b"").digest(DOWNLOAD_BYTES)).hexdigest()
"""What `/download` must be, byte for byte; made anew here and not asked of a server."""


def run(*words: str, timeout_s: float = RUN_S) -> subprocess.CompletedProcess[str]:
    """`lbctl WORDS…` to its end, whatever that is."""
    return subprocess.run(
        [*LBCTL, *words], capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
    )


def lbctl(*words: str) -> str:
    """What `lbctl WORDS…` prints. Raises LabError, with what it complained of, if it fails."""
    done = run(*words)
    if done.returncode:
        raise LabError(f"'lbctl {' '.join(words)}' ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def run_in(host: str, *command: str) -> str:
    """What a command in a lab host prints. Raises LabError if it fails."""
    return lbctl("lab", "exec", host, "--", *command)


def spawn_in(host: str, *command: str) -> subprocess.Popen[str]:
    """A command that goes on in a lab host; its output can be read."""
    words = [*LBCTL, "lab", "exec", host, "--", *command]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Poll until `condition` is truthy, and return its value. Raises LabError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_S)
    return value


def status(node: str) -> dict[str, Any]:
    """`lbctl status --json` of a director; empty while it does not run."""
    done = run("status", "--node", node, "--json")
    document: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return document


def role(node: str) -> str:
    """A director's role; empty while it does not run."""
    return str(status(node).get("role", ""))


def health(node: str) -> dict[str, str]:
    """Address → health of the first virtual's reals, as a director sees them."""
    return {real["address"]: real["health"] for real in status(node)["virtuals"][0]["reals"]}


def is_settled(*nodes: str) -> bool:
    """Is the cluster whole: one active, the others standby and in sync, every real up?"""
    documents = [status(node) for node in nodes]
    roles = sorted(document.get("role", "") for document in documents)
    return roles == ["active"] + ["standby"] * (len(nodes) - 1) and all(
        document["sync"]["state"] == "in-sync"
        and {real["health"] for virtual in document["virtuals"] for real in virtual["reals"]} == {"up"}
        for document in documents
    )


def answers(count: int, url: str) -> Counter[str]:
    """Who answered `count` requests of the client, one after the other and each a connection of its own."""
    script = f"for i in $(seq {count}); do curl -s --max-time 5 {url} || echo nobody; done"
    return Counter(run_in("client", "sh", "-c", script).splitlines())


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients saw while something happened.

    download_ok: the one under way ended, byte for byte right. outage_ms: longest time in which no new connection was
    served. failures: of so many attempts.
    """

    download_ok: bool
    outage_ms: float
    failures: int
    attempts: int


class Traffic:
    """A download that takes `seconds` and a prober every 10 ms, in the client, through a virtual address.

    with Traffic(address) as traffic:
        ...                            # something happens
    traffic.seen                       # how it went for them
    """

    seen: Seen

    def __init__(self, virtual: Address | str, seconds: float = 6.0) -> None:
        self._virtual = f"[{virtual}]" if ":" in str(virtual) else str(virtual)
        self._seconds = seconds

    def __enter__(self) -> Traffic:
        url = f"http://{self._virtual}/"
        rate = str(int(DOWNLOAD_BYTES / self._seconds))
        self._download = spawn_in("client", "sh", "-c", f"curl -s --limit-rate {rate} {url}download | sha256sum")
        self._prober = spawn_in("client", sys.executable, "-m", "lb.lab.prober", url, "--seconds", str(self._seconds))
        wait_until("the download is under way", self._connections)
        time.sleep(UNDER_WAY_S)
        return self

    def _connections(self) -> list[str]:
        return run_in("client", "ss", "-Htn", "state", "established", "dst", self._virtual).splitlines()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in (self._download, self._prober):
                process.kill()
                process.communicate()
            return
        digest, _ = self._download.communicate(timeout=60)
        probed = json.loads(self._prober.communicate(timeout=60)[0])
        self.seen = Seen(
            digest.split()[0] == DOWNLOAD_DIGEST, probed["outage_ms"], probed["failures"], probed["attempts"]
        )
