"""Programs of an operator: what is said of their end, and that none outlives its time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop

from lb import programs
from tests.servers import until

SLEEPER = "sleep 60 & echo $! >{file}; exec sleep 60"


def run(script: str, limit_s: float = 20.0, stdin: bytes = b"", **environment: str) -> str:
    return uvloop.run(programs.run(("/bin/sh", "-c", script, "sh", "an argument"), limit_s, environment, stdin))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo fine", ""),
        ("exit 3", "exit status 3"),
        ("echo one; echo two >&2; exit 1", "exit status 1: two"),
        ("kill -9 $$", "killed by SIGKILL"),
        ('test "$1" = "an argument"', ""),
        ('test "$LBCTL_VIRTUAL" = web', ""),
        ("test -n $PATH", ""),
        ("test $(cat) = input", ""),
        ("exec 0<&-; exit 0", ""),
        ("yes | head -c 3000000; exit 4", "exit status 4: y"),
    ],
)
def test_its_end_in_words(script: str, said: str) -> None:
    assert run(script, stdin=b"input", LBCTL_VIRTUAL="web") == said


def test_one_that_cannot_be_run(tmp_path: Path) -> None:
    assert uvloop.run(programs.run((str(tmp_path / "nothing"),), 5.0)) == "cannot be run: no such file or directory"
    assert uvloop.run(programs.run((str(tmp_path),), 5.0)) == "cannot be run: permission denied"


def alive(file: Path) -> bool:
    """Does the process whose number is in the file run? (A dead one whose parent died may wait long to be reaped.)"""
    try:
        return Path(f"/proc/{file.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert run(SLEEPER.format(file=file), limit_s=0.5) == "took longer than 0.5 s and was killed"

    async def gone() -> None:
        await until(lambda: not alive(file))

    uvloop.run(gone())


def test_the_same_when_the_caller_is_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def body() -> None:
        task = asyncio.create_task(programs.run(("/bin/sh", "-c", SLEEPER.format(file=file)), 60.0))
        await until(lambda: file.exists() and bool(file.read_text().strip()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not alive(file))

    uvloop.run(body())


def test_a_child_that_keeps_its_output_open_does_not_outlive_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert run(f"sleep 60 & echo $! >{file}", limit_s=0.5) == "took longer than 0.5 s and was killed"
