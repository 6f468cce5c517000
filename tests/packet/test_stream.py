"""Never wrong: packets between any two steps of what user space does, and that a mistake there would be found.

`script/fuzz stream` goes on where this stops; with real clients: tests/netns/test_stream.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lb import abi
from lb.abi import RealFlag
from lb.datapath import DataPath, rows, source
from lb.datapath.program import Program
from lb.datapath.source import Configuration
from tests.packet import stream
from tests.packet.stream import Stream, WrongError

SEED = 3
STEPS = 10
pytestmark = pytest.mark.timeout(600)
Patch = Callable[[pytest.MonkeyPatch], None]


def test_no_connection_moves_and_no_packet_is_lost() -> None:
    seen = stream.run(SEED, STEPS)
    assert seen["killed"]
    assert seen["packets"] > 1_000


def attached_before_it_is_filled(patch: pytest.MonkeyPatch) -> None:
    """New connections find no scheduling table."""
    compiled = DataPath._compile

    def compile_and_attach(self: DataPath, configuration: Configuration) -> Program:
        program = compiled(self, configuration)
        self._attachments.put(program.fd)
        return program

    patch.setattr(DataPath, "_compile", compile_and_attach)


def rows_of_who_left_are_free(patch: pytest.MonkeyPatch) -> None:
    """Their connections have no MAC any more."""

    kept = rows.retire
    patch.setattr(rows, "retire", lambda held, placements: rows.release(*_left(kept(held, placements))))


def _left(retired: Any) -> tuple[Any, Any]:
    return retired, (retired["flags"] & RealFlag.RETIRED != 0).nonzero()[0]


def known_ones_are_chosen_anew(patch: pytest.MonkeyPatch) -> None:
    """As if the table did not know them."""
    whole = source.program_text
    right = "known = goes_on(found, packet, now_t);"

    def broken(*args: Any) -> str:
        text = whole(*args)
        assert text.count(right) == 1
        return text.replace(right, "known = goes_on(found, packet, now_t) && !may_open(packet);")

    patch.setattr(source, "program_text", broken)


@pytest.mark.parametrize(
    ("breaks", "done"),
    [
        (attached_before_it_is_filled, Stream.reschedule),
        (rows_of_who_left_are_free, Stream.come_and_go),
        (known_ones_are_chosen_anew, Stream.drain_or_fill),
    ],
)
def test_a_mistake_is_found(monkeypatch: pytest.MonkeyPatch, breaks: Patch, done: Callable[[Stream], None]) -> None:
    breaks(monkeypatch)
    with stream.opened(SEED) as flow, pytest.raises(WrongError):
        four_times(flow, done)


def four_times(flow: Stream, done: Callable[[Stream], None]) -> None:
    flow.burst(new=60)
    for _ in range(4):
        flow.do(done)
        flow.clock.now_ns += 1 << abi.TICK_SHIFT
        flow.clock.set_program(flow.node)  # what CPUs know by heart is void
        flow.everybody()
