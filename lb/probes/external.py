"""`external`: a program says whether the real is well.

It is called as ldirectord calls it, without a shell: `COMMAND… VIRTUAL PORT REAL PORT`, and passes by exit status 0.
The same words, and login and password, which must not stand in a process list, are in its environment. It runs in a
session of its own; whatever of that is left when it ends, or when the check's time is over, is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Self

from lb.model import Check
from lb.probes.base import Failed, NotAskedError, Seen, Target, Tools, os_reason, password_of
from lb.probes.match import decode
from lb.service import PROTOCOL_NUMBERS

SAID_LIMIT = 4096
"""Bytes of its output that are looked at, for a reason."""
REASON_LIMIT = 120
INHERITED = ("PATH", "LANG", "TZ")
LEAST_WEIGHT_STATUS = 2
"""With `dynamic_weight` an exit status from here on is a weight, as in keepalived: 2 is weight 0, 255 weight 253."""


async def probe(target: Target, _tools: Tools) -> Seen:
    """Run the program once."""
    heard, said_to = os.pipe2(os.O_CLOEXEC)
    with _Output(heard) as output:
        try:
            process = _start(target, said_to)
        finally:
            os.close(said_to)
        with _killed_with_its_children(process):
            status = await _ended(process)
        said = output.first_line()
    if status == 0:
        return Seen(said or "exit status 0")
    if target.check.dynamic_weight and status >= LEAST_WEIGHT_STATUS:
        weight = status - LEAST_WEIGHT_STATUS
        return Seen(said or f"weight {weight}", weight=weight)
    ended = f"exit status {status}" if status > 0 else f"killed by {signal.Signals(-status).name}"
    raise Failed(f"{ended}: {said}" if said else ended)


def _start(target: Target, output: int) -> subprocess.Popen[bytes]:
    words = [*target.check.command, *_arguments(target)]
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=_environment(target),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise NotAskedError(f"{words[0]} cannot be run: {reason}") from error


def _arguments(target: Target) -> tuple[str, str, str, str]:
    service = target.service
    return str(service.address), str(service.port), str(target.address), str(target.port)


def _environment(target: Target) -> dict[str, str]:
    check: Check = target.check
    virtual, virtual_port, real, real_port = _arguments(target)
    protocols = {number: name for name, number in PROTOCOL_NUMBERS.items()}
    return {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "LBCTL_VIRTUAL": virtual,
        "LBCTL_VIRTUAL_PORT": virtual_port,
        "LBCTL_REAL": real,
        "LBCTL_REAL_PORT": real_port,
        "LBCTL_PROTOCOL": protocols.get(target.service.protocol, str(target.service.protocol)),
        "LBCTL_TIMEOUT": f"{check.timeout:g}",
        "LBCTL_LOGIN": check.login or "",
        "LBCTL_PASSWD": password_of(check),
    }


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit status, negative for a signal. A descriptor of the process tells when, so nobody polls or waits."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, _set, ended)
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def _set(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


@contextlib.contextmanager
def _killed_with_its_children(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()  # a moment at most: it is dead


class _Output:
    """What the program says: its beginning is kept, and the rest taken from it, so that it need not wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._said = b""

    def __enter__(self) -> Self:
        os.set_blocking(self._descriptor, False)
        asyncio.get_running_loop().add_reader(self._descriptor, self._take)
        return self

    def __exit__(self, *_exception: object) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def first_line(self) -> str:
        """The first line of those that say something, fit to be shown."""
        self._take()
        lines = (line.strip() for line in decode(self._said).splitlines())
        text = next((line for line in lines if line), "")
        return "".join(c if c.isprintable() else "?" for c in text)[:REASON_LIMIT]

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            piece = os.read(self._descriptor, 65536)
            self._said += piece[: SAID_LIMIT - len(self._said)]
            if not piece:  # all of its writers are gone; the descriptor would be readable for ever
                asyncio.get_running_loop().remove_reader(self._descriptor)
