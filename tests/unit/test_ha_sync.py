"""Connection rows on the wire, and the stream of snapshot and increments, without a network."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha import digest
from ha import rows as codec
from ha.session import Broken
from ha.sync import HELD, MAX_QUEUED, PAUSE_S, WINDOW, Sync
from lb import tcp
from lb.connections import CONNECTION, CONNECTION6, Rows


def some_rows(count: int, seed: int = 0, kind: np.dtype[Any] = CONNECTION) -> Rows:
    """Valid rows, different from each other."""
    random = np.random.default_rng(seed)
    rows = np.empty(count, kind)
    for name in kind.names or ():
        rows[name] = random.integers(0, 1 << 8 * kind[name].base.itemsize, rows[name].shape, kind[name].base)
    rows["protocol"] = random.choice(codec.PROTOCOLS, count)
    rows["state"] = random.integers(0, codec.MAX_STATE + 1, count)
    return rows


class Peer:
    """A `Sync` with the table that it fills."""

    def __init__(self, *understands: str) -> None:
        self.sync = Sync(understands)
        self.table: list[Rows] = []

    def take(self, payload: bytes, now_s: float) -> None:
        """As `ha.link` does."""
        rows = self.sync.receive(payload, now_s)
        if rows is not None:
            self.table.append(rows)
            self.sync.installed()

    @property
    def rows(self) -> Rows:
        """All that was installed, in order."""
        return np.concatenate([np.empty(0, CONNECTION), *self.table])


def exchange(one: Peer, other: Peer, now_s: float = 0.0) -> None:
    """Carry messages to and fro until both are quiet."""
    quiet = False
    while not quiet:
        quiet = True
        for sender, receiver in ((one, other), (other, one)):
            while (payload := sender.sync.next_message(now_s)) is not None:
                quiet = False
                receiver.take(payload, now_s)


def in_sync(rows: Rows) -> tuple[Peer, Peer]:
    """An active that had these rows, and a standby that got them."""
    active, standby = Peer(), Peer()
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    active.sync.snapshot([rows])
    exchange(active, standby)
    return active, standby


def of_kind(peer: Peer, kind: np.dtype[Any]) -> Rows:
    """What it has of one family."""
    return np.concatenate([np.empty(0, kind), *(rows for rows in peer.table if rows.dtype == kind)])


def test_both_families_in_a_snapshot_and_after_it() -> None:
    """In order within each: a row replaces what is known of its connection."""
    many = codec.MAX_ROWS + 5
    first, first6 = some_rows(many), some_rows(many, kind=CONNECTION6)
    later, later6 = some_rows(7, 1), some_rows(7, 2, CONNECTION6)
    active, standby = Peer("rows6"), Peer()
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    for number in range(7):
        active.sync.push(later[number : number + 1], 0.0)
        active.sync.push(later6[number : number + 1], 0.0)
    active.sync.snapshot((first, first6))
    exchange(active, standby)
    assert active.sync.delivered
    assert standby.sync.complete
    assert (of_kind(standby, CONNECTION) == np.concatenate([first, later])).all()
    assert (of_kind(standby, CONNECTION6) == np.concatenate([first6, later6])).all()


def test_a_peer_of_the_first_version_is_told_of_ipv4_alone() -> None:
    """It would not acknowledge what it does not know, and the stream would stand still."""
    active, standby = Peer(), Peer()
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    active.sync.snapshot((some_rows(9), some_rows(9, kind=CONNECTION6)))
    active.sync.push(some_rows(3, kind=CONNECTION6), 0.0)
    exchange(active, standby)
    assert active.sync.delivered
    assert [rows.dtype for rows in standby.table] == [CONNECTION]


def test_the_states_are_those_of_the_table() -> None:
    assert max(tcp.State) == codec.MAX_STATE


@given(st.integers(0, 300), st.integers(0, 2**32))
def test_rows_come_back_as_they_were(count: int, seed: int) -> None:
    rows = some_rows(count, seed)
    again = codec.decode(msgpack.unpackb(msgpack.packb(codec.encode(rows))))
    assert again.dtype == CONNECTION
    assert (again == rows).all()


def test_network_byte_order() -> None:
    rows = np.zeros(1, CONNECTION)
    rows["client"], rows["client_port"], rows["protocol"] = 0xC0A80101, 0x1234, 6
    columns = codec.encode(rows)
    assert (columns["client"], columns["client_port"]) == (b"\xc0\xa8\x01\x01", b"\x12\x34")


@pytest.mark.parametrize(
    "change",
    [
        {"client": b"123"},
        {"client": b""},
        {"client": 5},
        {"idle_s": bytes(6)},
    ],
)
def test_columns_that_are_no_rows(change: dict[str, Any]) -> None:
    columns = {**codec.encode(some_rows(4)), **change}
    with pytest.raises(codec.BadRows):
        codec.decode(columns)


def test_a_newer_version_may_have_more_columns_states_and_protocols() -> None:
    """What means nothing here is left out, and the rest is understood."""
    rows = some_rows(4)
    columns = codec.encode(rows)
    states, protocols = bytearray(columns["state"]), bytearray(columns["protocol"])
    states[1], protocols[2] = codec.MAX_STATE + 1, 132
    newer = {**columns, "mood": b"fine", "state": bytes(states), "protocol": bytes(protocols)}
    assert np.array_equal(codec.decode(newer), rows[[0, 3]])


def test_a_missing_column_and_too_many_rows() -> None:
    columns = codec.encode(some_rows(4))
    del columns["real"]
    with pytest.raises(codec.BadRows, match="real"):
        codec.decode(columns)
    half = codec.encode(some_rows(codec.MAX_ROWS))
    with pytest.raises(codec.BadRows, match=str(codec.MAX_ROWS)):
        codec.decode({name: column * 2 for name, column in half.items()})
    with pytest.raises(ValueError, match=str(codec.MAX_ROWS)):
        codec.encode(some_rows(codec.MAX_ROWS + 1))


@pytest.mark.parametrize("count", [0, 1, codec.MAX_ROWS, 3 * codec.MAX_ROWS + 5, (WINDOW + 9) * codec.MAX_ROWS])
def test_a_snapshot_arrives_whole(count: int) -> None:
    rows = some_rows(count)
    active, standby = in_sync(rows)
    assert (standby.rows == rows).all()
    assert standby.sync.complete
    assert active.sync.delivered
    assert active.sync.moved == standby.sync.moved == count


def test_increments_follow_in_order_and_together() -> None:
    active, standby = in_sync(some_rows(10))
    pieces = [some_rows(n, seed=n) for n in (3, 5, codec.MAX_ROWS, 1)]
    for piece in pieces:
        active.sync.push(piece, 1.0)
    exchange(active, standby, 1.5)
    assert (standby.rows[10:] == np.concatenate(pieces)).all()
    assert len(standby.table) == 1 + 2, "small ones share a message"
    assert active.sync.lag_s(2.0) == 0.5


def test_few_increments_wait_for_those_under_way_and_many_do_not() -> None:
    active, standby = in_sync(some_rows(1))
    few, one = some_rows(5, seed=1), some_rows(1, seed=2)
    active.sync.push(few, 0.0)
    first = active.sync.next_message(0.0)
    assert first, "nothing is under way"
    for _ in range(3):
        active.sync.push(one, 0.0)
        assert active.sync.next_message(0.0) is None
    standby.take(first, 0.0)
    exchange(standby, active)
    assert [len(rows) for rows in standby.table[-2:]] == [5, 3]
    active.sync.push(few, 0.0)
    assert active.sync.next_message(0.0)
    active.sync.push(some_rows(HELD, seed=3), 0.0)
    assert active.sync.next_message(0.0), "so many go at once"


def test_increments_during_a_snapshot_go_behind_it() -> None:
    active, standby = Peer(), Peer()
    early, snapshot, late = some_rows(1, 1), some_rows(2, 2), some_rows(3, 3)
    active.sync.lead()
    active.sync.push(early, 0.0)  # the snapshot will have it
    assert active.sync.snapshot_due(0.0)
    active.sync.push(late, 0.0)
    active.sync.snapshot([snapshot])
    exchange(active, standby)
    assert (standby.rows == np.concatenate([snapshot, late])).all()


def test_in_sync_only_after_the_end() -> None:
    active, standby = Peer(), Peer()
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    active.sync.snapshot([some_rows(2 * codec.MAX_ROWS)])
    while (payload := active.sync.next_message(0.0)) is not None:
        assert not standby.sync.complete
        standby.take(payload, 0.0)
    assert standby.sync.complete
    assert not active.sync.delivered, "it has not said so yet"


def test_who_was_in_sync_and_takes_over_tells_nothing_again() -> None:
    active, standby = in_sync(some_rows(10))
    active.sync.lead(False)
    standby.sync.lead()
    assert standby.sync.snapshot_timer is None
    standby.sync.push(some_rows(4), 0.0)
    active.sync.push(some_rows(2), 0.0)  # what still came in after the handover
    exchange(active, standby)
    assert active.sync.complete
    assert (len(active.rows), len(standby.rows)) == (4, 12)


def test_who_leads_no_more_never_sends_its_table() -> None:
    active, standby = in_sync(some_rows(10))
    active.sync.lead(False)
    active.sync.resync(5.0)
    assert not active.sync.snapshot_due(10.0)
    active.sync.push(some_rows(MAX_QUEUED + 1), 5.0)
    assert not active.sync.snapshot_due(10.0)
    exchange(active, standby)
    assert len(standby.rows) == 10


def test_two_actives_tell_each_other_everything() -> None:
    one, other = Peer(), Peer()
    for peer, rows in ((one, some_rows(5, 1)), (other, some_rows(7, 2))):
        peer.sync.lead()
        assert peer.sync.snapshot_due(0.0)
        peer.sync.snapshot([rows])
    exchange(one, other)
    assert (len(one.rows), len(other.rows)) == (7, 5)


def test_a_peer_that_does_not_answer_costs_bounded_memory_and_then_gets_everything() -> None:
    active, standby = in_sync(some_rows(1))
    sent: list[bytes] = []
    for second in range(200):
        active.sync.push(some_rows(codec.MAX_ROWS), float(second))
        while (payload := active.sync.next_message(float(second))) is not None:
            sent.append(payload)
    assert len(sent) == WINDOW
    assert active.sync.overflows == 1
    assert not active.sync.delivered
    assert active.sync.snapshot_timer is None, "not while the peer is behind"
    for payload in sent:
        standby.take(payload, 200.0)
    exchange(active, standby, 200.0)
    assert active.sync.snapshot_due(200.0)
    active.sync.snapshot([some_rows(9)])
    exchange(active, standby, 200.0)
    assert active.sync.delivered
    assert len(standby.rows) == 1 + WINDOW * codec.MAX_ROWS + 9


def test_snapshots_are_not_made_one_after_the_other() -> None:
    active, _ = in_sync(some_rows(1))
    active.sync.resync(0.1)
    assert not active.sync.snapshot_due(PAUSE_S - 0.1)
    assert active.sync.snapshot_timer == PAUSE_S
    assert active.sync.snapshot_due(PAUSE_S)
    assert not active.sync.snapshot_due(PAUSE_S), "said once"


def test_a_table_that_cannot_take_rows_asks_for_everything_again() -> None:
    active, standby = in_sync(some_rows(1))
    active.sync.push(some_rows(5), 2.0)
    payload = active.sync.next_message(2.0)
    assert payload is not None
    assert standby.sync.receive(payload, 2.0) is not None
    standby.sync.failed()
    exchange(active, standby, 2.0)
    assert not standby.sync.complete
    assert active.sync.snapshot_due(2.0)


def test_goodbye() -> None:
    active, standby = in_sync(some_rows(1))
    for payload in active.sync.goodbye():
        standby.take(payload, 0.0)
    assert standby.sync.farewell


def test_a_session_with_a_newer_version_goes_on_behind_what_is_not_understood() -> None:
    """Kinds of messages, columns and states that come later; what follows is installed and acknowledged."""
    standby, rows = Peer(), some_rows(3)
    odd = {**codec.encode(rows), "state": bytes([200] * 3), "more": bytes(24)}
    for message in (["begin", 1], ["rows", 2, odd], ["weather", 3, {"sky": "blue"}], ["rows", 4, codec.encode(rows)]):
        standby.take(msgpack.packb(message), 0.0)
    standby.take(msgpack.packb(["end", 5]), 0.0)
    assert standby.sync.complete
    assert np.array_equal(standby.rows, rows)
    assert msgpack.unpackb(standby.sync.next_message(0.0) or b"") == ["ack", 5]


def test_a_kind_of_message_that_a_newer_version_brings() -> None:
    peer = Peer()
    peer.take(msgpack.packb(["mood", "fine"]), 0.0)
    assert peer.sync.next_message(0.0) is None


@given(
    st.one_of(
        st.binary(max_size=100),
        st.sampled_from(["rows", "end", "ack", "begin"]).flatmap(
            lambda kind: st.lists(st.one_of(st.text(max_size=3), st.none()), min_size=1, max_size=3).map(
                lambda rest: bytes(msgpack.packb([kind, *rest]))
            )
        ),
    )
)
def test_nonsense_changes_nothing_or_breaks(payload: bytes) -> None:
    sync = Sync()
    with contextlib.suppress(Broken):
        assert sync.receive(payload, 0.0) is None
    assert not sync.complete


def compared(active: Peer, standby: Peer, ours: Rows, theirs: Rows) -> Rows:
    """What is sent to a standby that holds `theirs`, for a snapshot of `ours`."""
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    active.sync.snapshot([ours], digest.sums([ours]))
    exchange(active, standby)
    assert standby.sync.sums_asked
    assert not standby.sync.complete
    assert not active.sync.delivered
    standby.sync.compare(digest.sums([theirs]))
    exchange(active, standby)
    assert standby.sync.complete
    assert active.sync.delivered
    return standby.rows


def test_only_what_differs_is_sent() -> None:
    ours = some_rows(50_000)
    missing = [3, 30_000]
    sent = compared(Peer("digest"), Peer(), ours, np.delete(ours, missing))
    assert len(sent) < 50
    assert {ours[at].tobytes() for at in missing} <= {row.tobytes() for row in sent}


def test_nothing_is_sent_to_who_has_everything_and_everything_to_who_has_nothing() -> None:
    ours = some_rows(10_000)
    assert len(compared(Peer("digest"), Peer(), ours, ours)) == 0
    assert (compared(Peer("digest"), Peer(), ours, some_rows(0)) == ours).all()


def test_who_has_nothing_asks_nobody_to_compare() -> None:
    active, standby = Peer("digest"), Peer()
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    active.sync.snapshot([some_rows(0)], digest.sums([]))
    exchange(active, standby)
    assert not standby.sync.sums_asked
    assert standby.sync.complete


def test_increments_go_behind_what_is_compared() -> None:
    active, standby = Peer("digest"), Peer()
    ours, late = some_rows(100), some_rows(3, 3)
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    active.sync.snapshot([ours], digest.sums([ours]))
    exchange(active, standby)
    active.sync.push(late, 0.0)
    exchange(active, standby)
    assert len(standby.rows) == 0
    standby.sync.compare(digest.sums([]))
    exchange(active, standby)
    assert (standby.rows == np.concatenate([ours, late])).all()


def test_a_resync_while_it_is_compared_begins_anew() -> None:
    active, standby = Peer("digest"), Peer()
    ours = some_rows(100)
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    active.sync.snapshot([ours], digest.sums([ours]))
    exchange(active, standby)
    active.sync.resync(5.0)
    assert not active.sync.snapshot_due(5.0), "not while the peer is behind"
    standby.sync.compare(digest.sums([]))
    exchange(active, standby)
    assert len(standby.rows) == 0, "the answer to a question of before"
    assert active.sync.snapshot_due(5.0)
    active.sync.snapshot([ours], digest.sums([ours]))
    exchange(active, standby)
    standby.sync.compare(digest.sums([]))
    exchange(active, standby)
    assert (standby.rows == ours).all()


def test_who_does_not_understand_sums_gets_everything() -> None:
    active, standby = Peer(), Peer()
    ours = some_rows(10)
    active.sync.lead()
    assert active.sync.snapshot_due(0.0)
    active.sync.snapshot([ours], digest.sums([ours]))
    exchange(active, standby)
    assert (standby.rows == ours).all()


@pytest.mark.parametrize("message", [["digest", 1, b""], ["digest", 1], ["want", b"1"], ["want", 7]])
def test_sums_that_are_none(message: list[object]) -> None:
    with pytest.raises(Broken, match="malformed"):
        Peer().sync.receive(msgpack.packb(message), 0.0)
