"""Rules for every test: none is skipped, none leaves anything behind, and those that need root say so.

script/test runs them in two processes: one takes tests/netns, which wait most of the time, the other begins with the
rest, which compute. Each must clean up after itself. Guests are one for two CPUs.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_SLOW = (hypothesis.HealthCheck.too_slow,)
hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=_SLOW)  # it depends on who else works
hypothesis.settings.load_profile("ours")

NEED_ROOT = ("packet", "netns", "probes", "vm")
"""The folders of tests/ whose tests load programs, make namespaces, or run servers that give up root."""

LEFTOVER_GRACE_S = 5.0
"""How long what was told to stop may take to be gone."""

_SESSION = "LBCTL_TEST_SESSION"
"""Every process that a session starts has its name in the environment: others may test at the same time."""

_HERE = Path(__file__).parent


def _needs_root(item: pytest.Item) -> bool:
    parts = item.path.relative_to(_HERE).parts if item.path.is_relative_to(_HERE) else ()
    return bool(parts) and parts[0] in NEED_ROOT


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """What one process runs one after the other where there are several: a file's tests, and all of tests/netns; of
    those in guests each alone."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::")[0]
        if path.startswith("tests/vm/"):
            return nodeid
        return "netns" if path.startswith("tests/netns/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """`pytest --numprocesses 2`."""
    return ByFile(config, log)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why it was skipped: the last of (path, line, reason)."""
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was skipped, or expected to fail, has failed: what cannot run here must be seen."""
    report = yield
    if report.skipped or hasattr(report, "wasxfail"):
        reason = report.__dict__.pop("wasxfail", None) or _reason(report)
        report.outcome = "failed"
        report.longrepr = f"no test may be skipped or expected to fail here; it says: {reason}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"no module may skip its tests here; it says: {_reason(report)}"
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without root, say how to run a test that needs it instead of failing somewhere inside."""
    if _needs_root(item) and os.geteuid() != 0:
        pytest.fail("needs root for the kernel's programs and namespaces: run script/test as root", pytrace=False)


def _network_namespace(process: Path) -> str | None:
    """The network namespace of a process as in `net:[4026531840]`; None when the process is gone."""
    try:
        return str((process / "ns/net").readlink())
    except OSError:
        return None


def _present(session: str) -> set[str]:
    """Everything that this session's tests made outside its own process, one line a thing."""
    here = _network_namespace(Path("/proc/self"))
    found = {
        str(path)
        for root, pattern in (("/run/netns", "lbctl-*"), ("/sys/fs/bpf/lbctl", "**/*"), ("/run/lbctl", "**/*"))
        for path in Path(root).glob(pattern)
    }
    mark = f"{_SESSION}={session}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        if _network_namespace(process) not in (here, None):
            try:
                ours = mark in (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if ours:
                found.add(f"process {process.name} in another network namespace: {command.strip()[:80]}")
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """Namespaces, pins, run-time files and processes in namespaces that were not there before the session fail it."""
    if os.geteuid() != 0 or not any(_needs_root(item) for item in request.session.items):
        yield
        return
    name = os.environ[_SESSION] = uuid.uuid4().hex
    before = _present(name)
    yield
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    while (left := _present(name) - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        pytest.fail("the tests left behind:\n  " + "\n  ".join(sorted(left)), pytrace=False)
