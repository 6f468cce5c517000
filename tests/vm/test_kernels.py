"""The packet path and a whole cluster on Debian's kernels: `script/test vm`, and -k for one of them."""

from __future__ import annotations

import sys

import pytest

from tests.vm import guest, kernels

PYTEST = (sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--timeout=900")
LIMIT_S = 3600.0

PACKETS = (
    "tests/packet/test_foreign.py",
    "tests/packet/test_connections.py",
    "tests/packet/test_schedulers.py",
    "tests/packet/test_exchange.py",
    "tests/packet/test_life.py",
    "tests/packet/test_lease.py",
)
"""Every map, every kind of update and of attachment; what the rest find depends on no kernel."""

CLUSTER = ("tests/netns/test_cluster.py::test_round_robin_splits_in_half",)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(LIMIT_S + 300)]
every_kernel = pytest.mark.parametrize("version", kernels.SUITES)


def passes(version: str, *arguments: str) -> None:
    """Run these tests in a guest; what they say is this test's failure."""
    outcome = guest.run(kernels.fetch(version), [*PYTEST, *arguments], limit_s=LIMIT_S)
    assert outcome.status == 0, f"{outcome.output[-8000:]}\n{outcome.console[-2000:]}"


@every_kernel
def test_the_packet_path(version: str) -> None:
    """Through that kernel's verifier, and what comes out is what must."""
    passes(version, *PACKETS)


@every_kernel
def test_a_whole_cluster(version: str) -> None:
    """In the lab, on that kernel."""
    passes(version, *CLUSTER)
