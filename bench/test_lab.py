"""Requests a second through the whole lab, each on a connection of its own: straight to one real, and balanced.

Both go from the client over the same switch to the same nginx; what differs is the director in between. On one machine
the detour costs the cores that client and server want too: the ratio is for this machine, not for a wire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb.lab import observe

CONF = Path(__file__).parents[1] / "conf" / "cluster.toml"
REQUESTS = 2000
PARALLEL = 16


@pytest.fixture(scope="module", autouse=True)
def _lab() -> Iterator[None]:
    observe.lbctl("lab", "up", str(CONF))
    try:
        observe.wait_until("the pair is whole", lambda: observe.is_settled("lb1", "lb2"))
        yield
    finally:
        observe.lbctl("lab", "down", str(CONF))


def load(address: str) -> Counter[str]:
    """Who answered REQUESTS requests, PARALLEL at a time."""
    urls = f"http://{address}/?[1-{REQUESTS}]"
    options = ["--silent", "--parallel", "--parallel-max", str(PARALLEL), "--header", "Connection: close"]
    return Counter(observe.run_in("client", "curl", *options, urls).splitlines())


@pytest.mark.benchmark(group=f"{REQUESTS} requests of one client, {PARALLEL} at a time")
@pytest.mark.parametrize(("address", "reals"), [("192.168.1.101", 1), ("192.168.1.105", 2)], ids=["direct", "balanced"])
def test_requests(benchmark: Any, address: str, reals: int) -> None:
    answered = benchmark.pedantic(load, (address,), rounds=5, warmup_rounds=1)
    assert sum(answered.values()) == REQUESTS
    assert len(answered) == reals
    benchmark.extra_info["requests_per_second"] = round(REQUESTS / benchmark.stats.stats.median)
