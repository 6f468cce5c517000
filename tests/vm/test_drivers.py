"""lbctl on emulated network cards, with four CPUs, on Debian's kernels: tests/vm/inside/drivers.py has the tests."""

from __future__ import annotations

import pytest

from tests.vm import guest, kernels
from tests.vm.test_kernels import LIMIT_S, PYTEST, every_kernel

CARDS = (
    *[guest.Card()] * 4,
    *[guest.Card(queues=8)] * 3,
    guest.Card(guest.E1000),
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(LIMIT_S + 300)]


@every_kernel
def test_cards(version: str) -> None:
    """Native and generic, one queue and several, bonds and VLANs."""
    outcome = guest.run(
        kernels.fetch(version), [*PYTEST, "tests/vm/inside/drivers.py"], cpus=4, cards=CARDS, limit_s=LIMIT_S
    )
    assert outcome.status == 0, f"{outcome.output[-8000:]}\n{outcome.console[-2000:]}"
