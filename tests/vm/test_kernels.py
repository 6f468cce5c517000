"""The packet path and a whole cluster on Debian's kernels: `script/test vm`, and -k for one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm import guest, kernels

PYTEST = (sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--timeout=900")
VERIFY = (sys.executable, "-m", "tests.vm.verify")
LIMIT_S = 3600.0

PACKETS = ("tests/packet/test_foreign.py", "tests/packet/test_connections.py", "tests/packet/test_lease.py")
"""The maps, the updates and the program's way out; what the rest find depends on no kernel."""

CLUSTER = ("tests/unit/test_ha_steering.py", "tests/netns/test_cluster.py::test_round_robin_splits_in_half")
"""And the program for heartbeats, whose mistakes a kernel with several CPUs shows soonest."""

TUNNELS = ("tests/netns/test_realserver.py", "tests/netns/test_tunnel_pairs.py")
"""Whose ends a module of each kind makes, where the kernel has them."""
TUNNEL_MODULES = ("ipip", "sit", "ip6_tunnel")

pytestmark = [pytest.mark.guest, pytest.mark.timeout(LIMIT_S + 300)]
every_kernel = pytest.mark.parametrize("version", kernels.SUITES)


def succeeds(version: str, *command: str, cpus: int = 2) -> None:
    """Run this in a guest; what it says is this test's failure."""
    outcome = guest.run(kernels.fetch(version), command, cpus=cpus, limit_s=LIMIT_S)
    assert outcome.status == 0, f"{outcome.output[-8000:]}\n{outcome.console[-2000:]}"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All variants of the program, compiled."""
    file = tmp_path_factory.mktemp("programs") / "compiled"
    subprocess.run([*VERIFY, "compile", file], check=True)
    return file


@every_kernel
def test_every_program_loads(version: str, programs: Path) -> None:
    """Through that kernel's verifier, whatever the configuration wants."""
    succeeds(version, *VERIFY, "load", str(programs), cpus=1)


@every_kernel
def test_the_packet_path(version: str) -> None:
    """Compiled and loaded as `lbctl up` does it there, and what comes out is what must."""
    succeeds(version, *PYTEST, *PACKETS)


@every_kernel
def test_a_whole_cluster(version: str) -> None:
    """In the lab, on that kernel."""
    succeeds(version, *PYTEST, *CLUSTER)


def test_the_kernels_own_tunnel_ends() -> None:
    """`realserver up` with every module that it can need, and what it is there for: reals in tunnels of each pair."""
    load = f'modprobe -a {" ".join(TUNNEL_MODULES)} && exec "$@"'
    succeeds("6.1", "sh", "-c", load, "sh", *PYTEST, *TUNNELS)
