"""Runs an operator's program: without a shell, in a session of its own, for a limited time, beside everything else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, BinaryIO

OUTPUT_LIMIT = 4096
"""Bytes of a program's output that are looked at."""


async def run(
    words: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> str:
    """Run a program to its end; returns what went wrong, in words for people, or nothing.

    words: its path and its arguments. environment: besides our own. stdin: what it can read; from a file, so that it
    need not. After limit_s seconds it is killed, with all that it started; the same when this call is cancelled.
    """
    with _file_with(stdin) as file:
        starting = asyncio.create_subprocess_exec(
            *words, stdin=file, stdout=PIPE, stderr=STDOUT, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        try:
            process = await _started(starting)
        except OSError as error:
            return f"cannot be run: {(error.strerror or str(error)).lower()}"
    try:
        async with asyncio.timeout(limit_s):
            said = await _end_of_output(process)
            status = await process.wait()
    except TimeoutError:
        return f"took longer than {limit_s:g} s and was killed"
    finally:
        await _kill(process)
    if status == 0:
        return ""
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    ended = f"exit status {status}" if status > 0 else f"killed by {signal.Signals(-status).name}"
    return f"{ended}: {last[:200]}" if last else ended


async def _started(starting: Coroutine[Any, Any, Process]) -> Process:
    """The process that is being started. A caller that is cancelled meanwhile leaves none behind."""
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _kill(await task)
        raise


async def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _file_with(content: bytes) -> BinaryIO:
    """A file of no name, to be read from its beginning."""
    file = os.fdopen(os.memfd_create("stdin"), "w+b")
    file.write(content)
    file.seek(0)
    return file


async def _end_of_output(process: asyncio.subprocess.Process) -> bytes:
    """The last of what it says, once it has closed its output."""
    assert process.stdout is not None
    said = b""
    while piece := await process.stdout.read(OUTPUT_LIMIT):
        said = (said + piece)[-OUTPUT_LIMIT:]
    return said
