"""How long until reals that hang are out: lbctl's checks beside the real ldirectord's, on the same reals.

A hundred reals are well, then twenty of them fall silent at once: they accept connections and answer nothing, as hosts
whose disk hangs. Both programs ask every 2 s, wait 1 s for an answer and take a real out after two failures. Counted is
the time from the silence until the last of the twenty is out: for ldirectord its call of ipvsadm (for which
`bench/ipvsadm` stands in), for lbctl the change that the director acts on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from lb.checker import Checker
from lb.health import Change, Health
from lb.model import Check
from lb.plan import Target as Real
from lb.probes import Target
from lb.service import ServiceKey
from tests.servers import free_port, nginx, until

REALS, HANGING = 100, 20
INTERVAL_S, TIMEOUT_S, FAILURES = 2, 1, 2
ALL_OUT_WITHIN_S = 300.0
LDIRECTORD = "/usr/sbin/ldirectord"
STAND_IN = Path(__file__).parent / "ipvsadm"
VIRTUAL = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)

WELL = [f"127.0.1.{n}" for n in range(1, REALS - HANGING + 1)]
SICK = [f"127.0.2.{n}" for n in range(1, HANGING + 1)]


class Reals(NamedTuple):
    """ports: of each address. sick: the processes behind those that will hang."""

    ports: dict[str, int]
    sick: tuple[int, ...]

    def hang(self) -> float:
        """Fall silent; returns when, Unix time."""
        for pid in self.sick:
            os.kill(pid, signal.SIGSTOP)
        return time.time()

    def recover(self) -> None:
        """Answer again."""
        for pid in self.sick:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def reals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reals]:
    """Two nginx; the second is to hang."""
    directories = tmp_path_factory.mktemp("well"), tmp_path_factory.mktemp("sick")
    ports = free_port(), free_port()
    with contextlib.ExitStack() as running:
        for directory, addresses, port in zip(directories, (WELL, SICK), ports, strict=True):
            listen = "".join(f"listen {address}:{port}; " for address in ["127.0.0.1", *addresses])
            page = 'location / { default_type text/plain; return 200 "Test Page"; }'
            running.enter_context(nginx(directory, f"server {{ {listen} {page} }}", port))
        master = int((directories[1] / "pid").read_text())
        workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        found = Reals(dict.fromkeys(WELL, ports[0]) | dict.fromkeys(SICK, ports[1]), (master, *map(int, workers)))
        running.callback(found.recover)
        yield found


def lbctl(reals: Reals) -> float:
    """Seconds until lbctl has all twenty out."""
    check = Check(
        type="negotiate", request="/index.html", receive="Test Page",
        interval=INTERVAL_S, timeout=TIMEOUT_S, failures=FAILURES,
    )  # fmt: skip
    targets: dict[Real, Target] = {
        (VIRTUAL, IPv4Address(address)): Target(IPv4Address(address), port, check, VIRTUAL)
        for address, port in reals.ports.items()
    }

    async def main() -> float:
        out: dict[Real, float] = {}

        def on_change(real: Real, health: Health, _change: Change | None) -> None:
            if health.state == "down":
                out[real] = time.time()

        checker = Checker(on_change)
        try:
            checker.configure(targets)
            await until(lambda: all(health.state == "up" for health in checker.snapshot().values()), 30.0)
            hung = reals.hang()
            await until(lambda: len(out) == HANGING, ALL_OUT_WITHIN_S)
            return max(out.values()) - hung
        finally:
            reals.recover()
            await checker.close()

    return uvloop.run(main())


CONFIGURATION = """\
checktimeout={timeout}
negotiatetimeout={timeout}
checkinterval={interval}
failurecount={failures}
quiescent=yes
virtual=192.168.1.105:80
{reals}
\tservice=http
\trequest="index.html"
\treceive="Test Page"
\tscheduler=rr
\tprotocol=tcp
\tchecktype=negotiate
"""


def ldirectord(reals: Reals, directory: Path) -> float:
    """Seconds until ldirectord has all twenty out."""
    shutil.copy(STAND_IN, directory)
    lines = "\n".join(f"\treal={address}:{port} gate" for address, port in sorted(reals.ports.items()))
    configuration = directory / "bench.cf"
    configuration.write_text(
        CONFIGURATION.format(timeout=TIMEOUT_S, interval=INTERVAL_S, failures=FAILURES, reals=lines)
    )

    def weights() -> dict[str, tuple[str, float]]:
        """What each real's weight was set to last, and when."""
        calls = [line.split() for line in (directory / "calls").read_text().splitlines()]
        return {
            call[call.index("-r") + 1].partition(":")[0]: (call[call.index("-w") + 1], float(call[0]))
            for call in calls
            if call[1] in ("-a", "-e")
        }

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + ALL_OUT_WITHIN_S
        while not condition():
            assert time.monotonic() < deadline, weights()
            time.sleep(0.05)

    process = subprocess.Popen(
        [LDIRECTORD, "-d", str(configuration), "start"],  # only with -d it takes the ipvsadm of its directory
        cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait(lambda: (directory / "calls").exists() and [w for w, _ in weights().values()] == ["1"] * REALS)
        hung = reals.hang()
        wait(lambda: all(weights()[address][0] == "0" for address in SICK))
        return max(weights()[address][1] for address in SICK) - hung
    finally:
        reals.recover()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60.0)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", ["lbctl", "ldirectord"])
def test_twenty_of_a_hundred_hang(benchmark: BenchmarkFixture, reals: Reals, tmp_path: Path, program: str) -> None:
    """One round, whose seconds are in the table's extra column: what is timed has its start and its end within."""
    assert Path(LDIRECTORD).exists(), "needs Debian's package ldirectord: script/bootstrap --bench"
    if program == "lbctl":
        seconds = benchmark.pedantic(lbctl, (reals,), rounds=1)  # type: ignore[no-untyped-call]
    else:
        seconds = benchmark.pedantic(ldirectord, (reals, tmp_path), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["all_out_s"] = round(seconds, 1)
    print(f"\n{program}: all {HANGING} out after {seconds:.1f} s")
