"""A whole cluster in the lab, seen only through `lbctl` and a client's eyes: what the cluster tests share."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONF = Path(__file__).parents[2] / "conf" / "cluster.toml"
VIRTUAL = "192.168.1.105"
URL = f"http://{VIRTUAL}/"
LBCTL = [sys.executable, "-m", "lb"]


def lbctl(*words: str, status: int | None = 0, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `status` is the exit status it must have, None for any."""
    done = subprocess.run(
        [*LBCTL, *words], capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
    )
    if status is not None:
        assert done.returncode == status, f"lbctl {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Poll until `condition` is truthy and return its value; fail with its last value after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)
    return value


def run_in(host: str, *command: str, status: int | None = 0) -> str:
    """Output of a command in a lab host."""
    return lbctl("lab", "exec", host, "--", *command, status=status).stdout


def spawn_in(host: str, *command: str) -> subprocess.Popen[str]:
    """A command that goes on in a lab host."""
    return subprocess.Popen(
        [*LBCTL, "lab", "exec", host, "--", *command], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def answers(count: int, url: str = URL) -> Counter[str]:
    """How often each host answered `count` requests, one after the other, each a new connection."""
    script = f"for i in $(seq {count}); do curl -s --max-time 5 {url} || echo failed; done"
    return Counter(run_in("client", "sh", "-c", script).split("\n")[:-1])


def status(node: str) -> dict[str, Any]:
    """`lbctl status --json` of a director, {} while it does not run."""
    done = lbctl("status", "--node", node, "--json", status=None)
    document: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return document


def role(node: str) -> str:
    """A director's role, "" while it does not run."""
    return str(status(node).get("role", ""))


def roles() -> dict[str, str]:
    """Who is what."""
    return {node: role(node) for node in ("lb1", "lb2")}


def health(node: str = "lb1") -> dict[str, str]:
    """Address → health of the first virtual's reals, as a director sees them."""
    return {real["address"]: real["health"] for real in status(node)["virtuals"][0]["reals"]}


def settled() -> bool:
    """Is the pair whole: one active, one standby that knows the connections, all reals up?"""
    both = {node: status(node) for node in ("lb1", "lb2")}
    return sorted(d.get("role", "") for d in both.values()) == ["active", "standby"] and all(
        d["sync"]["state"] == "in-sync" and {r["health"] for v in d["virtuals"] for r in v["reals"]} == {"up"}
        for d in both.values()
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What clients saw during a fault. outage_ms: longest time without a successful new connection."""

    download_ok: bool
    outage_ms: float
    failures: int
    attempts: int


class Traffic:
    """A slow download and a prober in the client while something happens; afterwards `seen` says how it went."""

    def __init__(self, seconds: float = 6.0) -> None:
        self._seconds = seconds

    def __enter__(self) -> Traffic:
        size = len_of_download()
        rate = str(int(size / self._seconds))
        self._download = spawn_in(
            "client", "sh", "-c", f"curl -s --limit-rate {rate} {URL}download | sha256sum | cut -d' ' -f1"
        )
        command = [sys.executable, "-m", "lb.lab.prober", URL, "--seconds", str(self._seconds)]
        self._prober = spawn_in("client", *command)
        wait_until("the download is under way", lambda: connections_of_download() >= 1)
        time.sleep(0.5)  # into the middle of it: the kernel's buffers are full and the rate limit holds
        return self

    def __exit__(self, *exception: object) -> None:
        digest, _ = self._download.communicate(timeout=60)
        probes, _ = self._prober.communicate(timeout=60)
        document = json.loads(probes)
        self.seen = Seen(
            digest.strip() == digest_of_download(), document["outage_ms"], document["failures"], document["attempts"]
        )


def len_of_download() -> int:
    """Bytes of the page that takes long."""
    return int(run_in("web1", "curl", "-sI", "http://127.0.0.1/download").lower().split("content-length:")[1].split()[0])


def digest_of_download() -> str:
    """What every real must deliver, fetched without any balancer."""
    body = subprocess.run(
        [*LBCTL, "lab", "exec", "web1", "--", "curl", "-s", "http://127.0.0.1/download"],
        capture_output=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    return hashlib.sha256(body).hexdigest()


def connections_of_download() -> int:
    """Established connections that the client holds to the virtual address."""
    lines = run_in("client", "ss", "-Htn", "state", "established", "dst", VIRTUAL).splitlines()
    return len(lines)


def edited(directory: Path, *changes: tuple[str, str]) -> Path:
    """A copy of the demo's configuration with some text replaced."""
    text = CONF.read_text()
    for old, new in changes:
        assert old in text, f"{old!r} is not in {CONF}"
        text = text.replace(old, new)
    path = directory / "cluster.toml"
    path.write_text(text)
    return path


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Show what was measured: `pytest -s`, and in the report of a failure."""
    print(f"\n{name}: " + "  ".join(columns))
    for row in rows:
        print("  " + "  ".join(str(cell) for cell in row))
