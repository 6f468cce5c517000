"""Keeping a peer's connection table like ours: a snapshot, then increments, over one session. Sans-I/O.

Both directions are alike and independent, so nothing is turned round when the roles change. A node *leads* from
when it is active: it sends everything (`begin`, `rows`..., `end`) and then what changes (`rows`). If all it has came
from this very peer in this very session it sends `same` instead: the new active after a handover has nothing to tell.
Who leads no more sends what still happens, but never its whole table: that would be older than the peer's.

    begin N           forget that you were in sync: a snapshot comes
    digest N SUMS     compare your table's sums with these (`ha.digest`), and say which buckets you want; only to who
                      said in its greeting that it understands this, and not of a table without rows
    want BITS         these, and nothing else of the snapshot
    rows N COLUMNS    connections as of now (a row replaces what is known of that connection)
    rows6 N COLUMNS   the same of IPv6; only to who said in its greeting that it understands them
    end N             that was all; from here on you are in sync
    same N            you have all I have
    ack N             everything up to N is installed
    again             I could not install what you sent, or could now install more of it; send everything again
    orders BYTES      what operators ordered by hand; not for us to read
    bye               this end is in order; nobody crashed

Increments go at once while nothing is under way, and together once what is under way has been installed, or there are
many (HELD): so each message has the more rows the busier the peer is, and costs it the less a row.

Memory is bounded: at most WINDOW messages are under way unacknowledged, and at most MAX_QUEUED rows wait behind them.
What does not fit, or what the data plane lost, is made good by a new snapshot once the peer has caught up: by those
buckets of it in which the two tables differ. Increments that happen while a snapshot is made or compared go behind it,
so an older row never replaces a newer one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

import msgpack
import numpy as np

from ha import digest
from ha import rows as codec
from ha.session import Broken
from lb.connections import CONNECTION, CONNECTION6, Rows, empty

WINDOW: Final = 32
MAX_QUEUED: Final = 1 << 18
HELD: Final = 1024
"""Fewer increments wait while the peer is at work on others, and go together when it has done: a message of a few rows
costs it almost as much as one of many."""
PAUSE_S: Final = 1.0
"""Snapshots begin at least so far apart."""

UNDERSTANDS: Final = ("rows6", "digest")
"""What our greeting says."""

SCANNED: Final = 16
"""Messages' worth of rows that are looked through for one message of wanted ones: some milliseconds."""

LAG_SHOWN_S: Final = 1.0
"""For how long the lag of what came last is shown while nothing new comes."""

_NAMES: Final = {CONNECTION: "rows", CONNECTION6: "rows6"}
_DTYPES: Final = {name: kind for kind, name in _NAMES.items()}


class Stream(Enum):
    """How far our sending is."""

    IDLE = "idle"
    WANTED = "wanted"
    MAKING = "making"
    LIVE = "live"


class Sync:
    """One side of one session.

    Sending: `lead`, `push`, `resync`; ask `snapshot_due` and answer it with `snapshot`; send every `next_message`.
    Receiving: `receive` gives rows to install, and `installed` or `failed` says how that went.

    Comparing: whenever `sums_asked`, answer with `compare`.

    understands: what the peer's greeting says; it is not told of IPv6 connections if those are not in it.
    complete: we hold all that the peer has. delivered: the peer holds all that we have, as far as it said.
    moved: rows sent and received. orders: what came and nobody took yet.
    """

    def __init__(self, understands: Iterable[str] = UNDERSTANDS) -> None:
        self._kinds = {kind: name for kind, name in _NAMES.items() if name == "rows" or name in understands}
        self.orders: deque[bytes] = deque()
        self._orders: deque[bytes] = deque()
        self._digests = "digest" in understands
        self._sums: bytes | None = None
        self._wanted: bytes | None = None
        self._compared: bytes | None = None
        self.complete = False
        self.farewell = False
        self.moved = 0
        self.overflows = 0
        self._leads = False
        self._stream = Stream.IDLE
        self._not_before_s = 0.0
        self._snapshot: deque[Rows] = deque()
        self._controls: deque[str] = deque()
        self._queue: deque[tuple[Rows, float]] = deque()
        self._queued = 0
        self._number = 0
        self._end_number: int | None = None
        self._unacked: deque[tuple[int, float]] = deque()
        self._acked = 0
        self._lag_s = 0.0
        self._acked_s = 0.0
        self._received = 0
        self._answers: deque[list[Any]] = deque()

    # ------------------------------------------------------------------------------------------------- sending

    def lead(self, leads: bool = True) -> None:
        """We are active: begin our stream, unless it runs already. leads False: we are not any more."""
        self._leads = leads
        if not leads and self._stream in (Stream.WANTED, Stream.MAKING):
            self._stream = Stream.IDLE
        if not leads or self._stream is not Stream.IDLE:
            return
        if self.complete:
            self._stream = Stream.LIVE
            self._controls.append("same")
        else:
            self._stream = Stream.WANTED

    def push(self, rows: Rows, now_s: float) -> None:
        """Connections that changed. The array must not change any more."""
        if self._stream not in (Stream.MAKING, Stream.LIVE) or not len(rows) or rows.dtype not in self._kinds:
            return  # nobody is told yet, or the snapshot that comes will have them
        self._queue.append((rows, now_s))
        self._queued += len(rows)
        if self._queued > MAX_QUEUED:
            self.overflows += 1
            self.resync(now_s)

    def tell(self, orders: bytes) -> None:
        """Something for the other end that is no connection."""
        self._orders.append(orders)

    def resync(self, now_s: float) -> None:
        """Increments are missing: send everything again."""
        self._queue.clear()
        self._queued = 0
        self.retell(now_s)

    def retell(self, now_s: float) -> None:
        """What the peer was told until now is not all: send everything again, and what waits behind it."""
        if not self._leads:
            return
        self._stream = Stream.WANTED
        self._not_before_s = max(self._not_before_s, now_s)
        self._end_number = None
        self._sums = self._wanted = None
        self._snapshot.clear()
        self._controls.clear()

    @property
    def snapshot_timer(self) -> float | None:
        """When to ask `snapshot_due`; None: not before something else happens."""
        return self._not_before_s if self._stream is Stream.WANTED and not self._unacked else None

    def snapshot_due(self, now_s: float) -> bool:
        """Should a snapshot be made now? Says so once; `snapshot` is the answer."""
        due_s = self.snapshot_timer
        if due_s is None or now_s < due_s:
            return False
        self._stream = Stream.MAKING
        self._not_before_s = now_s + PAUSE_S
        return True

    @property
    def digests(self) -> bool:
        """Does a snapshot need its sums?"""
        return self._digests

    def snapshot(self, families: Iterable[Rows], sums: bytes | None = None) -> None:
        """Everything we hold, as of some moment after `snapshot_due`. sums: its `ha.digest.sums`, if `digests`."""
        if self._stream is Stream.MAKING:  # else a resync has come between, and another one is due
            self._stream = Stream.LIVE
            self._snapshot = deque(rows for rows in families if len(rows) and rows.dtype in self._kinds)
            self._controls.append("begin")
            self._sums = sums if self._digests and sums and self._snapshot else None

    def goodbye(self) -> list[bytes]:
        """The last messages of a session that is closed in order."""
        answers, self._answers = [*self._answers, ["bye"]], deque()
        return [_pack(answer) for answer in answers]

    def next_message(self, now_s: float) -> bytes | None:
        """The next payload; None: nothing to send now."""
        if self._answers:
            return _pack(self._answers.popleft())
        if self._orders:
            return _pack(["orders", self._orders.popleft()])
        if self._stream is not Stream.LIVE or len(self._unacked) >= WINDOW:
            return None
        if self._controls:
            control = self._controls.popleft()
            if control != "begin":
                self._end_number = self._number + 1
            return self._numbered(now_s, control)
        if self._end_number is None:
            return self._of_snapshot(now_s)
        if self._queue and (not self._unacked or self._queued >= HELD):
            pushed_s = self._queue[0][1]
            return self._rows(self._gather(), pushed_s)
        return None

    def _of_snapshot(self, now_s: float) -> bytes | None:
        if self._sums is not None:
            sums, self._sums, self._wanted = self._sums, None, b""
            return self._numbered(now_s, "digest", sums)
        if self._wanted == b"":
            return None  # not said yet
        rows = empty()
        for _ in range(SCANNED):
            rows = self._snapshot.popleft() if self._snapshot else empty()
            if len(rows) > codec.MAX_ROWS:
                self._snapshot.appendleft(rows[codec.MAX_ROWS :])
                rows = rows[: codec.MAX_ROWS]
            if self._wanted is not None:
                rows = digest.within(rows, self._wanted)
            if len(rows) or not self._snapshot:
                break
        if not self._snapshot:
            self._controls.append("end")
            self._wanted = None
        return self._rows(rows, now_s)

    def _gather(self) -> Rows:
        """Increments of one family from the head of the queue, as many as fit into one message."""
        parts: list[Rows] = []
        room = codec.MAX_ROWS
        while self._queue and room and (not parts or self._queue[0][0].dtype == parts[0].dtype):
            rows, pushed_s = self._queue.popleft()
            parts.append(rows[:room])
            if len(rows) > room:
                self._queue.appendleft((rows[room:], pushed_s))
            room -= len(parts[-1])
        self._queued -= codec.MAX_ROWS - room
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _rows(self, rows: Rows, since_s: float) -> bytes:
        self.moved += len(rows)
        return self._numbered(since_s, self._kinds[rows.dtype], codec.encode(rows))

    def _numbered(self, since_s: float, kind: str, *rest: object) -> bytes:
        self._number += 1
        self._unacked.append((self._number, since_s))
        return _pack([kind, self._number, *rest])

    @property
    def delivered(self) -> bool:
        """Did the peer say that it has the snapshot, and is none wanted?"""
        return self._stream is Stream.LIVE and self._end_number is not None and self._acked >= self._end_number

    @property
    def behind(self) -> bool:
        """Is there what the peer was not told, or does not hold yet?"""
        return bool(self._queue or self._unacked or self._snapshot)

    def lag_s(self, now_s: float) -> float:
        """How far the peer is behind: the age of the oldest that it does not hold, or how late the last was."""
        waiting_s = [since_s for _, since_s in [*list(self._unacked)[:1], *list(self._queue)[:1]]]
        last_s = self._lag_s if now_s < self._acked_s + LAG_SHOWN_S else 0.0
        return max([last_s, *(now_s - since_s for since_s in waiting_s)])

    # ----------------------------------------------------------------------------------------------- receiving

    def receive(self, payload: bytes, now_s: float) -> Rows | None:
        """Take a message. Returns rows to install, for which `installed` or `failed` must be called next.

        Raises Broken for what is no message. Kinds that a newer version may bring are passed over.
        """
        try:
            kind, *rest = msgpack.unpackb(payload)
            match kind, rest:
                case ("rows" | "rows6", [int(number), columns]):
                    rows = codec.decode(columns, _DTYPES[kind])
                    self._received = number
                    self.moved += len(rows)
                    return rows
                case ("begin" | "end" | "same", [int(number)]):
                    self.complete = kind != "begin"
                    self._received = number
                    self.installed()
                case ("digest", [int(number), bytes(sums)]) if len(sums) == digest.BYTES:
                    self._compared, self._received = sums, number
                case ("want", [bytes(wanted)]) if len(wanted) == digest.BUCKETS // 8:
                    if self._wanted == b"":
                        self._wanted = wanted
                case ("digest" | "want", _):
                    raise Broken("malformed")
                case ("ack", [int(number)]):
                    self._acknowledge(number, now_s)
                case ("orders", [bytes(orders)]):
                    self.orders.append(orders)
                case ("again", []):
                    self.resync(now_s)
                case ("bye", []):
                    self.farewell = True
                case (str(), _):
                    pass
                case _:
                    raise Broken("malformed")
        except (ValueError, TypeError, msgpack.UnpackException):
            raise Broken("malformed") from None
        return None

    @property
    def sums_asked(self) -> bool:
        """Does the peer want to know in which buckets we differ?"""
        return self._compared is not None

    def compare(self, sums: bytes) -> None:
        """What `ha.digest.sums` says of our table, as of some moment after `sums_asked`."""
        if self._compared is not None:
            self._answers.append(["want", digest.differing(sums, self._compared)])
            self._compared = None
            self.installed()

    def installed(self) -> None:
        """What `receive` returned is in the table."""
        if self._answers and self._answers[-1][0] == "ack":
            self._answers.pop()
        self._answers.append(["ack", self._received])

    def failed(self) -> None:
        """What `receive` returned could not be put into the table: ask for everything again."""
        self.complete = False
        self.installed()
        self.ask_again()

    def ask_again(self) -> None:
        """Ask for everything: what had no place in the table may have one now."""
        self._answers.append(["again"])

    def _acknowledge(self, number: int, now_s: float) -> None:
        self._acked = max(self._acked, number)
        while self._unacked and self._unacked[0][0] <= number:
            self._lag_s, self._acked_s = now_s - self._unacked.popleft()[1], now_s


def _pack(message: list[Any]) -> bytes:
    return bytes(msgpack.packb(message))
