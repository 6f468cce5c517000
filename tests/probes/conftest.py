"""What the tests of probes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.probes.certificates import Authority
from tests.probes.processes import directory


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """Whose certificates the servers have."""
    with directory() as path:
        yield Authority(path)
