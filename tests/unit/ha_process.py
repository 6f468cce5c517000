"""A director's failover as a process of its own, for tests that stop, kill or cut it off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from tests.unit.ha_pair import PATIENCE_S

ROOT = Path(__file__).parents[2]


class Process:
    """One director; its words in the order in which it said them, with their times."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.words: list[tuple[float, str]] = []

    @classmethod
    async def start(
        cls, name: str, port: int, hosts: tuple[str, str], *prefix: str, interfaces: tuple[str, ...] = ()
    ) -> Process:
        """Begin. prefix: words before the command. interfaces: see `ha_pair`."""
        command = (*prefix, sys.executable, "-m", "tests.unit.ha_pair", name, str(port), *hosts, *interfaces)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, env=environment))

    async def says(self, word: str, since_s: float = 0.0) -> float:
        """Wait until it says that; when it did, monotonic seconds."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for at_s, said in self.words:
                    if said.startswith(word) and at_s >= since_s:
                        return at_s
                line = await self._process.stdout.readline()
                assert line, f"the process ended; it said {self.words}"
                if line.startswith(b"{"):  # else the log
                    entry = json.loads(line)
                    self.words.append((entry["at"], entry["word"]))

    def signal(self, number: signal.Signals) -> float:
        """Send it; when, monotonic seconds."""
        self._process.send_signal(number)
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    async def end(self) -> None:
        """Whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
