"""Network namespaces for tests, in a mount namespace of the session's own.

/run and /sys/fs/bpf are empty and private here: nothing collides with a lab or a director of this machine, and what
a killed session leaves mounted goes with its last process. Look inside with: nsenter -m -t PID ip netns
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from lb import namespaces
from lb.lab import services
from lb.lab import state as labs
from lb.netif import names
from tests.netns.cluster import CONF, lbctl, settle

_CLONE_NEWNS = 0x00020000
_LAST_LINES = 60


def ip(*words: str, stdin: str = "") -> str:
    """`ip` as a second opinion on what our netlink did."""
    done = subprocess.run(["ip", *words], input=stdin, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Poll until `condition` is truthy and return its value; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure tells what the directors of the labs that are up had to say."""
    report = yield
    if report.failed:
        for lab in labs.labs():
            for host in lab.topology.directors:
                with contextlib.suppress(OSError):
                    lines = services.director_log(lab, host).read_text(errors="replace").splitlines()
                    report.sections.append((f"log of {host.name}", "\n".join(lines[-_LAST_LINES:])))
    return report


@pytest.fixture(scope="session", autouse=True)
def _private_mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    for words in (
        ["--make-rprivate", "/"],
        ["-t", "tmpfs", "-o", "mode=755", "lbctl-tests", "/run"],
        ["-t", "bpf", "lbctl-tests", "/sys/fs/bpf"],
    ):
        subprocess.run(["mount", *words], check=True, timeout=10)


@pytest.fixture(scope="module")
def demo_lab() -> Iterator[None]:
    """The cluster of conf/cluster.toml, whole and led by lb1; taken down after the module's last test."""
    lbctl("lab", "up", str(CONF))
    try:
        settle()
        yield
    finally:
        lbctl("lab", "down", str(CONF))


@pytest.fixture
def segment() -> Iterator[tuple[str, str]]:
    """Two namespaces on one cable: `here` has 10.77.0.1/24 on eth0, `there` 10.77.0.2/24."""
    here, there = "lbctl-test-here", "lbctl-test-there"
    try:
        for name in (here, there):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", here, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", there)
        for number, name in enumerate((here, there), start=1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield here, there
    finally:
        inodes = {found for name in (here, there) if (found := namespaces.inode(name))}
        for pids in namespaces.processes(inodes).values():
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        for name in (here, there):
            names.remove(name)
