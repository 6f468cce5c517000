"""What outlives a restart: read back as written, and never a reason not to start."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb import memory, state
from lb.byhand import Order
from lb.history import KEPT, Entry, Histories
from lb.memory import Memory
from lb.plan import Override, Target
from lb.service import ServiceKey
from lb.state import Remembered
from tests.servers import until

WEB = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)
ONE: Target = (WEB, IPv4Address("192.168.1.101"))
TWO: Target = (WEB, IPv6Address("2001:db8::2"))
DOWN = Entry(1700000000.25, "down", "up", 12.5, "refused")
DRAINED = Entry(1700000001.0, "drained", "", 0.0, "by hand")


def test_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "lb1.state.json"
    book = {ONE: Order(Override(weight=3), 7), TWO: Order(Override(drained=True), 8)}
    known = Remembered(book, {ONE: "up"}, {TWO: (DOWN, DRAINED)})
    state.save(path, known)
    assert state.load(path) == Remembered(book, {ONE: "up", TWO: "unknown"}, {TWO: (DOWN, DRAINED)})
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_version_before_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lb1.state.json"
    path.write_text(
        '{"version":1,"reals":[{"address":"192.168.1.105","port":80,"protocol":6,"real":"192.168.1.101",'
        '"weight":3,"drained":false,"health":"down"}]}'
    )
    assert state.load(path) == Remembered({ONE: Order(Override(3), 0)}, {ONE: "down"}, {})


def test_nothing_was_written(tmp_path: Path) -> None:
    assert state.load(tmp_path / "lb1.state.json") == Remembered()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 2}', b'{"reals": [{"address": "x"}]}', b"\xff\x00"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "lb1.state.json"
    path.write_bytes(damage)
    assert state.load(path) == Remembered(damaged=True)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [damage]
    state.save(path, Remembered(states={ONE: "up"}))
    assert state.load(path) == Remembered(states={ONE: "up"})


@given(st.integers(0, 700), st.binary(max_size=3))
def test_a_file_cut_or_scribbled_into_is_no_reason_not_to_start(
    tmp_path_factory: pytest.TempPathFactory, place: int, scribble: bytes
) -> None:
    path = tmp_path_factory.mktemp("state") / "lb1.state.json"
    known = Remembered({ONE: Order(Override(weight=3), 5)}, {ONE: "up", TWO: "down"}, {TWO: (DOWN, DRAINED)})
    state.save(path, known)
    content = path.read_bytes()
    path.write_bytes(content[:place] + scribble)
    found = state.load(path)
    assert found.damaged or found == known or content[:place].strip() == b"" or scribble
    state.save(path, found)
    assert not state.load(path).damaged


def test_nothing_to_remember_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lb1.state.json"
    state.save(path, Remembered({ONE: Order(Override(drained=True), 1)}))
    state.save(path, Remembered())
    assert not path.exists()


def test_that_an_order_was_undone_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "lb1.state.json"
    state.save(path, Remembered({ONE: Order(Override(), 9)}))
    assert state.load(path).book == {ONE: Order(Override(), 9)}


class TestHistories:
    def test_the_last_of_each_real(self) -> None:
        histories = Histories({ONE: (DRAINED,)})
        for number in range(KEPT + 5):
            histories.add(TWO, DOWN._replace(at=float(number)))
        assert histories.of(ONE) == (DRAINED,)
        assert [entry.at for entry in histories.of(TWO)] == [float(number) for number in range(5, KEPT + 5)]

    def test_a_snapshot_stays_as_it_is(self) -> None:
        histories = Histories()
        histories.add(ONE, DOWN)
        before = histories.snapshot()
        histories.add(ONE, DRAINED)
        histories.keep([TWO])
        assert before == {ONE: (DOWN,)}
        assert histories.snapshot() == {}

    def test_as_json(self) -> None:
        assert DOWN.document() == {
            "at": "2023-11-14T22:13:20.250+00:00", "state": "down", "was": "up", "lasted_s": 12.5, "reason": "refused",
        }  # fmt: skip
        assert (DRAINED.document()["was"], DRAINED.document()["lasted_s"]) == (None, None)


class TestMemory:
    def test_changes_are_gathered_orders_are_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "GATHER_S", 0.05)
        path = tmp_path / "lb1.state.json"
        written: list[Remembered] = []

        def content() -> Remembered:
            written.append(Remembered(states={ONE: "up" if len(written) % 2 else "down"}))
            return written[-1]

        async def main() -> None:
            kept = Memory(path, content)
            for _ in range(100):
                kept.write_soon()
            assert not written
            await until(path.exists)
            assert len(written) == 1
            await kept.write()
            assert (len(written), state.load(path).states[ONE]) == (2, "up")
            kept.write_soon()
            await kept.close()
            assert len(written) == 2, "what was not begun is not written after the end"

        asyncio.run(main())

    def test_a_failure_is_kept_and_passes(self, tmp_path: Path) -> None:
        directory = tmp_path / "run"

        async def main() -> None:
            kept = Memory(directory / "lb1.state.json", lambda: Remembered(states={ONE: "up"}))
            await kept.write()
            assert kept.trouble.endswith("lb1.state.json: No such file or directory")
            assert kept.failures == 1
            directory.mkdir()
            await kept.write()
            assert (kept.trouble, kept.failures) == ("", 1)

        asyncio.run(main())

    def test_the_loop_goes_on_while_ten_thousand_reals_are_written(self, tmp_path: Path) -> None:
        """Other tasks run in between: the writing is no single long step."""
        reals: list[Target] = [(WEB, IPv4Address(0x0A000000 + number)) for number in range(10_000)]
        known = Remembered(states=dict.fromkeys(reals, "up"), histories=dict.fromkeys(reals, (DOWN,) * KEPT))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async def main() -> None:
            counting = asyncio.create_task(count())
            kept = Memory(tmp_path / "lb1.state.json", lambda: known)
            await kept.write()
            counting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await counting

        asyncio.run(main())
        assert turns > 10
        assert state.load(tmp_path / "lb1.state.json").histories == known.histories
