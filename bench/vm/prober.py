"""New connections every 10 ms, by a process that costs an emulated CPU little: `lb.lab.prober` takes it a whole one.

    with Prober("lbctl-client", "192.168.1.105", 80) as prober:
        ...                             # something happens
    prober.seen

A connection counts as served when it is open: who answered its SYN was the real.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from types import TracebackType

from lb import namespaces
from lb.lab.prober import outages_s

INTERVAL_S = 0.01
TIMEOUT_S = 0.25
"""A connection that takes longer has failed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """outage_ms: the longest of `outages_s`. late_ms: by how much connections were begun too late at most, 99 of 100
    times, which may make an outage look longer. failures: of so many attempts."""

    outage_ms: float
    late_ms: float
    failures: int
    attempts: int


class Prober:
    """Probes in a network namespace, in a process of its own, from `with` to its end."""

    seen: Seen

    def __init__(self, namespace: str, address: str, port: int) -> None:
        self._namespace, self._to = namespace, (address, port)

    def __enter__(self) -> Prober:
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                namespaces.enter(self._namespace, "client")
                os.write(writing, json.dumps(_probe(self._to)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        self._results = reading
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self._pid, signal.SIGTERM)
        with os.fdopen(self._results) as results:
            said = results.read()
        os.waitpid(self._pid, 0)
        if kind is None:
            self.seen = Seen(*json.loads(said))


def _probe(to: tuple[str, int]) -> tuple[float, float, int, int]:
    """Until SIGTERM; the fields of `Seen`."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    waiting, poll = dict[int, tuple[float, socket.socket]](), select.poll()
    outcomes, lateness = list[tuple[float, bool]](), list[float]()
    begun_s = time.monotonic()
    while not stopped or waiting:
        due_s = begun_s + len(lateness) * INTERVAL_S
        now_s = time.monotonic()
        if not stopped and now_s >= due_s:
            lateness.append(now_s - due_s)
            opening = socket.socket()
            opening.setblocking(False)
            if opening.connect_ex(to) in (0, errno.EINPROGRESS):
                waiting[opening.fileno()] = now_s, opening
                poll.register(opening, select.POLLOUT)
            else:
                outcomes.append((now_s, False))
                opening.close()
            continue
        for fd, _ in poll.poll(max(0.0, min(due_s - now_s, INTERVAL_S)) * 1000):
            started_s, opening = waiting.pop(fd)
            outcomes.append((started_s, opening.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0))
            poll.unregister(fd)
            opening.close()
        while waiting and (oldest := next(iter(waiting.values())))[0] < now_s - TIMEOUT_S:
            outcomes.append((oldest[0], False))
            poll.unregister(oldest[1])
            del waiting[oldest[1].fileno()]
            oldest[1].close()
    outage_s = max((lasts_s for _, lasts_s in outages_s(begun_s, outcomes, time.monotonic())), default=0.0)
    late_s = sorted(lateness)[len(lateness) * 99 // 100]
    failures = sum(not served for _, served in outcomes)
    return round(max(0.0, outage_s - INTERVAL_S) * 1000, 1), round(late_s * 1000, 1), failures, len(lateness)
