"""Who gets new connections: the program against lb.reference, each scheduler on reals of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lb import abi
from lb.schedule import LOCALITY_S
from lb.service import Destination
from tests.packet import fuzz
from tests.packet.pair import Pair
from tests.packet.test_schedulers import CLIENTS, KEYS, frame, services
from tests.packet.world import limited, real

LIFE = ("S", "A", "FA")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with fuzz.pair_of_its_own() as made:
        yield made


REALS = {
    "one": (real(1),),
    "two": (real(1), real(2)),
    "weighted": (real(1, 3), real(2, 1), real(3, 2)),
    "one drained": (real(1, 0), real(2), real(3)),
    "one unresolved": (real(1), real(2, resolved=False), real(3, 4)),
    "one down that keeps its share": (real(1), real(2, 0, share=2), real(3, 2)),
    "many": tuple(real(number, 1 + number % 4) for number in range(1, 31)),
    "with thresholds": (limited(1, 9, 4, weight=3), limited(2, 2), real(3, 2), limited(4, 20, 19)),
    "soon all full": (limited(1, 9, 4), limited(2, 2)),
}


@pytest.mark.parametrize("reals", REALS.values(), ids=REALS)
def test_the_program_schedules_as_the_reference(pair: Pair, reals: tuple[Destination, ...]) -> None:
    """Each frame's real is compared, and in the end all counts."""
    *every, last = services("rr", *reals)
    pair.change((*(replace(service, destinations=reals) for service in every), last))
    for name in KEYS:
        for port, client in enumerate(CLIENTS[:24], start=1):
            for flags in LIFE[: 1 + port % 3]:
                pair.send(frame(name, flags, port, client))
    pair.check()
    pair.elapse(abi.ticks(1000) << abi.TICK_SHIFT)
    pair.sweep()
    pair.check()


def test_lblcr_loses_its_most_loaded_after_a_day(pair: Pair) -> None:
    pair.change(services("lblcr", real(1), real(2), real(3, 9)))
    schedule = next(s for s in pair.maps.schedules if s.members[-1].service == KEYS["lblcr"])
    for port in range(1, 15):
        pair.send(frame("lblcr", "S", port, "10.0.0.1"))
    (known,) = schedule.localities.values()
    before = len(known.members)
    assert before > 1
    for port in (15, 16):
        pair.elapse(int(0.6 * LOCALITY_S * 1e9))
        pair.send(frame("lblcr", "S", port, "10.0.0.1"))
    assert len(known.members) == before - 1
    pair.check()
