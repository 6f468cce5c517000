"""Real servers as processes of the test: a directory, a configuration, a private port, and nothing left of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

READY_WITHIN_S = 30.0
ENDED_WITHIN_S = 10.0
MEMORY = Path("/dev/shm")
ENOUGH = 256 << 20
"""Bytes that all servers of a module together never need."""


def _in_memory() -> Path | None:
    """Where nothing waits for a disk: a database is made there ten times faster. None: there is not the room."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ENOUGH else None


@contextlib.contextmanager
def directory(owner: str | None = None) -> Iterator[Path]:
    """A directory that servers which give up root can enter, unlike pytest's. owner: whom it belongs to."""
    path = Path(tempfile.mkdtemp(prefix="lbctl-probes-", dir=_in_memory()))
    try:
        path.chmod(0o755)
        if owner:
            shutil.chown(path, owner, owner)
        yield path
    finally:
        shutil.rmtree(path)


def _as(user: str | None, words: Sequence[str | Path]) -> list[str]:
    """The command that runs as somebody else, who finds a /dev/null there: some containers keep theirs for root."""
    plain = [str(word) for word in words]
    if user is None:
        return plain
    null = 'n=$(mktemp -u) && mknod -m 666 "$n" c 1 3 && mount --bind "$n" /dev/null && rm "$n" && exec "$@"'
    identity = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return ["unshare", "--mount", "sh", "-c", null, "sh", *identity, *plain]


@contextlib.contextmanager
def running(
    words: Sequence[str | Path],
    ready: Callable[[], bool],
    log: Path,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """A server in the foreground, ready from here on, gone with all its children afterwards."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            _as(user, words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} did not start: {log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(ENDED_WITHIN_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def listening(port: int) -> bool:
    """Does somebody accept connections on that port of loopback?"""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def succeeds(*words: str | Path, user: str | None = None) -> bool:
    """Does the program end with status 0?"""
    try:
        run(*words, user=user)
    except RuntimeError:
        return False
    return True


def run(*words: str | Path, user: str | None = None, text: str = "") -> None:
    """A program that prepares something. Raises RuntimeError with its output if it fails."""
    done = subprocess.run(
        _as(user, words),
        input=text,
        capture_output=True,
        text=True,
        cwd="/",
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stdout}{done.stderr}")
