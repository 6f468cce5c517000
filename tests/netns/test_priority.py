"""Priorities of the kernel's, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, subprocess, threading
from lb.priority import raise_thread
{drop}
nice = lambda: os.getpriority(os.PRIO_PROCESS, 0)
found = [nice(), raise_thread(), nice()]
thread = threading.Thread(target=lambda: found.append(nice()))
thread.start()
thread.join()
found.append(int(subprocess.run("nice", capture_output=True).stdout))
print(*found)
"""


def priorities(drop: str = "") -> list[str]:
    """Before, was it permitted, after; of a thread; of a child. Run with an ordinary priority."""
    command = [sys.executable, "-c", SCRIPT.format(drop=f"os.setpriority(os.PRIO_PROCESS, 0, 0); {drop}")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_the_threads_that_ask_for_it_go_first_and_no_child_does() -> None:
    assert priorities() == ["0", "True", "-10", "0", "0"]


def test_who_may_not_goes_on_as_before() -> None:
    assert priorities("os.setuid(65534)") == ["0", "False", "0", "0", "0"]
