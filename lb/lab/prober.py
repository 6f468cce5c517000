"""What new clients notice: opens a connection every few milliseconds and says how long none went through.

Run inside a lab host: `python -m lb.lab.prober http://192.168.1.105/ --seconds 10`. Prints one JSON document:

    attempts, failures    requests begun; requests without a whole answer within the timeout
    outage_ms             the longest time between the starts of two successful requests with a failed one between
                          them, less the interval
    late_ms               the longest by which a request was begun too late: the prober's own lateness, which makes an
                          outage look longer
    outages, lates        each of them, with the moment of CLOCK_MONOTONIC when it began; of the second, those longer
                          than the interval
    answers               how often each first line of a body was seen (the lab's pages name their host)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections import Counter
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

import uvloop


@dataclass(slots=True)
class Result:
    """What was seen; times in milliseconds."""

    attempts: int = 0
    failures: int = 0
    outage_ms: float = 0.0
    late_ms: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    lates: list[tuple[float, float]] = field(default_factory=list)


async def fetch(host: str, port: int, path: str) -> str:
    """The first line of the body at a URL. Raises OSError or ValueError."""
    reader, writer = await asyncio.open_connection(host, port)
    name = f"[{host}]" if ":" in host else host
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        head, found, body = (await reader.read()).partition(b"\r\n\r\n")
        if not found:
            raise ValueError(f"cut short after {len(head)} bytes")
        return body.decode(errors="replace").partition("\n")[0]
    finally:
        writer.close()


async def probe(url: str, interval_s: float, timeout_s: float, stop: asyncio.Event) -> Result:
    """Probe until `stop` is set; the requests under way then are waited for."""
    parts = urlsplit(url)
    host, port, path = parts.hostname or "", parts.port or 80, parts.path or "/"
    loop = asyncio.get_running_loop()
    result = Result()
    answers: Counter[str] = Counter()
    outcomes: list[tuple[float, bool]] = []
    running: set[asyncio.Task[None]] = set()

    async def attempt(started_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                answers[await fetch(host, port, path)] += 1
            outcomes.append((started_s, True))
        except (OSError, ValueError, TimeoutError):
            outcomes.append((started_s, False))

    begun_s = loop.time()
    late_s = 0.0
    while not stop.is_set():
        due_s = begun_s + result.attempts * interval_s
        await asyncio.sleep(due_s - loop.time())
        result.attempts += 1
        now_late_s = loop.time() - due_s
        late_s = max(late_s, now_late_s)
        if now_late_s > interval_s:
            result.lates.append((round(due_s, 3), round(now_late_s * 1000, 1)))
        task = loop.create_task(attempt(loop.time()))
        running.add(task)
        task.add_done_callback(running.discard)
    ended_s = loop.time()
    await asyncio.gather(*running)
    result.answers = dict(answers)
    result.failures = sum(not succeeded for _, succeeded in outcomes)
    stretches = ((at_s, lasts_s - interval_s) for at_s, lasts_s in outages_s(begun_s, outcomes, ended_s))
    result.outages = [(round(at_s, 3), round(lasts_s * 1000, 1)) for at_s, lasts_s in stretches if lasts_s > 0]
    result.outage_ms = max((ms for _, ms in result.outages), default=0.0)
    result.late_ms = round(late_s * 1000, 1)
    return result


def outages_s(begun_s: float, outcomes: list[tuple[float, bool]], ended_s: float) -> list[tuple[float, float]]:
    """The stretches of failures: when the success before it was, and how long until the one behind it.

    outcomes: when each request was begun, and whether it succeeded.
    """
    found, last_s, failing = [], begun_s, False
    for started_s, succeeded in [*sorted(outcomes), (ended_s, True)]:
        if succeeded:
            if failing:
                found.append((last_s, started_s - last_s))
            last_s = started_s
        failing = not succeeded
    return found


async def _main(arguments: argparse.Namespace) -> Result:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.call_later(arguments.seconds, stop.set)
    return await probe(arguments.url, arguments.interval_ms / 1000, arguments.timeout_ms / 1000, stop)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10.0, help="stop after this long, or at SIGTERM")
    parser.add_argument("--interval-ms", type=float, default=10.0)
    parser.add_argument("--timeout-ms", type=float, default=250.0, help="a slower answer is a failure")
    print(json.dumps(asdict(uvloop.run(_main(parser.parse_args())))), flush=True)


if __name__ == "__main__":
    main()
