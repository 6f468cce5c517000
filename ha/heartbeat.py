"""Who is alive: heartbeats out, heartbeats in, silence and one's own lateness. Sans-I/O; time is an argument.

What a heartbeat must be before it counts as life (each failure is a counter, see `ha.counters`):

1. signed with a shared key, of this cluster, from a node of the file, and naming us;
2. of the life we know of its sender and with a sequence that has not come yet. One that others have overtaken, on the
   way or between the sender's loop and its deputy, is told from a repeated one, and says nothing new;
3. or of another life, and then echoing a sequence of *our* present life above every one echoed before. Our own
   sequence orders the lives of a peer: what an earlier life recorded can only echo earlier numbers. So a replay needs
   no clock and no disk to be found out, whichever of the two was restarted.

A sender that is not proven yet is echoed as a candidate, beside the life that is proven, so that it can prove itself by
its next heartbeat, and so that replays cannot push out the echo of the true peer.

Lateness: whoever is called later than asked by more than a part of deadtime (`ha.timing`) was frozen itself.
Silence across that time does not count: every peer gets time to be heard anew. The sum of the rest is `awake`, which
heartbeats carry: a peer whose count lags behind ours between two of its heartbeats was frozen, even where its own clock
stood still (a paused machine).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ha import wire
from ha.counters import Counters
from ha.passes import Passes
from ha.state import ABSENT, Cause, Heard, Lost, Phase, Report, Stalled
from ha.timing import Timing

AHEAD: Final = 128
"""Sequences of a peer whose passes (`ha.wire`) are told beforehand: those of a dozen turns with all their spares. Of so
many behind the highest one it is known which came."""

USED: Final = 32
"""So many of them are gone before others are told, as long as nothing comes but heartbeats."""

MAX_CANDIDATES: Final = 4
"""Lives of one peer that are echoed while none of them is proven."""

_DRIFT: Final = 1e-3
"""Two clocks may differ by so much per second; far above what oscillators do."""

_FOR_GOOD: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Spare:
    """A heartbeat made before its time. due_s: when to send it, unless another one was made meanwhile; worthless_s:
    from when on not any more. datagrams: (peer, datagram). late: it goes out only if we are late."""

    due_s: float
    worthless_s: float
    datagrams: list[tuple[str, bytes]]
    late: bool = True


@dataclass(frozen=True, slots=True)
class Note:
    """Something for the log."""

    text: str
    fields: dict[str, object]
    warning: bool = True


@dataclass(slots=True)
class _Candidate:
    """A life that is not proven. unproven: its heartbeats so far; replays, unless it proves itself. link: the last."""

    sequence: int
    heard_s: float
    link: str
    unproven: int = 1


@dataclass(slots=True)
class LinkLife:
    """What came of one peer's life over one link. sequence: the highest. recent: bit n, did the one n below it come?
    up: the last came within deadtime. told: from which sequence on passes were asked for last; those below are good
    for nothing."""

    sequence: int = 0
    recent: int = 0
    heard_s: float = 0.0
    up: bool = False
    told: int = 0

    def came_before(self, sequence: int) -> bool:
        """Has it come, or is it too old to tell?"""
        below = self.sequence - sequence
        return below >= 0 and (below >= AHEAD or bool(self.recent >> below & 1))

    def note(self, sequence: int) -> bool:
        """It has come. Is it the highest now?"""
        above = sequence - self.sequence
        if above <= 0:
            self.recent |= 1 << -above
            return False
        self.recent = (self.recent << above | 1) & (1 << AHEAD) - 1 if above < AHEAD else 1
        self.sequence = sequence
        return True


@dataclass(slots=True)
class PeerLife:
    """What was heard of one peer; life 0: nothing yet. began_s: when its life was proven. links: by name.
    key_id: of the key with which it signed last. passes: of this life.

    cause: why it is not alive any more.

    echo: the highest of our sequences that it echoed. over: heartbeats of this life count no more unless they echo a
    higher sequence than this (None: they count); a life that left has no such sequence.
    """

    life: int = 0
    sequence: int = 0
    key_id: int = 0
    echo: int = 0
    alive: bool = False
    heard_s: float = 0.0
    deadline_s: float = 0.0
    awake_s: float = 0.0
    our_awake_s: float = 0.0
    over: float | None = None
    config: str = ""
    candidates: dict[int, _Candidate] = field(default_factory=dict)
    began_s: float = 0.0
    cause: Cause | None = None
    links: dict[str, LinkLife] = field(default_factory=dict)
    passes: Passes | None = None

    @property
    def left(self) -> bool:
        """Did it say goodbye?"""
        return self.over == _FOR_GOOD


class Heartbeats:
    """This node's heartbeats and what it hears of its peers.

    Call `receive_datagram` with what arrived, `handle_timer` when `timer()` is due, and then send all of
    `datagrams_to_send` and take every `next_event` and `next_note`.
    """

    def __init__(
        self,
        cluster: str,
        me: str,
        peers: tuple[str, ...],
        timing: Timing,
        keys: wire.Keys,
        life: int,
        counters: Counters,
        now_s: float,
        groups: tuple[str, ...] = (),
    ) -> None:
        """groups: of addresses that have a role of their own, besides that of all others, which is called ""."""
        self.timing = timing
        self.keys = keys
        self.config = ""
        self.peers = {name: PeerLife() for name in peers}
        self._cluster = cluster
        self._me = me
        self._life = life
        self._passes = Passes(cluster, me, life)
        self._counters = counters
        self._words = {group: (Report(Phase.INIT), frozenset[str]()) for group in ("", *groups)}
        self._sequence = 0
        self._started_s = now_s
        self._slept_s = 0.0
        self._beat_s = now_s
        self._last_beat_s = now_s
        self._turns = 1
        self._events: deque[Heard | Lost | Stalled] = deque()
        self._notes: deque[Note] = deque()
        self._outdated: dict[tuple[str, str], None] = {}

    # ------------------------------------------------------------------------------------------------- outward

    def say(self, report: Report, voided: frozenset[str], now_s: float, group: str = "") -> None:
        """From now on our heartbeats say this of a group; a change is said at once."""
        if (report, voided) != self._words[group]:
            self._words[group] = report, voided
            self._beat_s = min(self._beat_s, now_s)

    def repeat(self, now_s: float) -> None:
        """Say it once more now."""
        self._beat_s = now_s

    def datagrams_to_send(self, now_s: float) -> list[tuple[str, bytes]]:
        """(peer, datagram), when it is time."""
        if now_s < self._beat_s:
            return []
        keepalive_s = self.timing.keepalive_s
        between = min(int((now_s - self._last_beat_s) / keepalive_s), self._turns - 1)
        self._turns = self.timing.turns
        begins_s = now_s if now_s - self._beat_s >= keepalive_s else self._beat_s
        self._beat_s = begins_s + self._turns * keepalive_s
        self._last_beat_s = now_s
        self._counters.add("heartbeat_sent", len(self.peers) * (1 + between))
        [datagrams] = self._next([now_s])
        return datagrams

    def unaided(self) -> None:
        """There is nobody to leave heartbeats to: we send each of them."""
        self._beat_s -= (self._turns - 1) * self.timing.keepalive_s
        self._turns = 1

    def spares(self) -> list[Spare]:
        """Heartbeats for the next turns; to be taken after each that was sent.

        They say what is true now, with sequences that nothing else will have. First those that come due before we
        send again; then, in case we are late for that, as many as come due in `Timing.spare_s`. None once we have left.
        """
        if self._words[""][0].phase is Phase.LEFT:
            return []
        keepalive_s, grace_s = self.timing.keepalive_s, self.timing.grace_s
        turns = range(1 - self._turns, math.ceil(self.timing.spare_s / keepalive_s))
        due_s = [self._beat_s + turn * keepalive_s + (grace_s if turn >= 0 else 0.0) for turn in turns]
        said = zip(turns, due_s, self._next(due_s), strict=True)
        return [Spare(at_s, at_s + keepalive_s, datagrams, turn >= 0) for turn, at_s, datagrams in said]

    def _next(self, at_s: Sequence[float]) -> list[list[tuple[str, bytes]]]:
        """Heartbeats for these moments, which say what is true now."""
        turn, *later = (
            wire.Turn(self._sequence + number, int(self._awake_s(moment_s) * 1000))
            for number, moment_s in enumerate(at_s, start=1)
        )
        self._sequence += len(at_s)
        datagrams = wire.encode(self._heartbeat(turn), self._passes, self.keys, later)
        return [[(name, data) for name in self.peers] for data in datagrams]

    def _heartbeat(self, turn: wire.Turn) -> wire.Heartbeat:
        seen = {}
        for name, peer in self.peers.items():
            proven = [(peer.life, peer.sequence)] if peer.life else []
            candidates = [(life, candidate.sequence) for life, candidate in peer.candidates.items()]
            voids, *others = (name in voided for _, voided in self._words.values())
            voids_in = tuple(group for group, voids_it in zip(self._groups, others, strict=True) if voids_it)
            seen[name] = wire.Seen((*proven, *candidates), peer.alive, voids, voids_in)
        return wire.Heartbeat(
            self._cluster, self._me, self._life, *turn, self.config, self._words[""][0], seen,
            {group: self._words[group][0] for group in self._groups},
        )  # fmt: skip

    @property
    def _groups(self) -> tuple[str, ...]:
        return tuple(self._words)[1:]

    # -------------------------------------------------------------------------------------------------- inward

    def receive_datagram(self, data: bytes, now_s: float, link: str = "") -> None:
        """Something arrived over a link."""
        self.notice_lateness(now_s)
        try:
            heartbeat = wire.decode(data, self.keys)
            peer, seen = self._addressed(heartbeat)
            self._place(heartbeat, peer, seen, now_s, link)
            self._signed_with(wire.key_id_of(data), heartbeat.node)
        except wire.Rejected as rejected:
            self._reject(rejected.kind, now_s)

    def _signed_with(self, key_id: int, name: str) -> None:
        if key_id != self.peers[name].key_id:
            self.peers[name].key_id = key_id
            self._outdate()

    def _outdate(self) -> None:
        """All passes that were seen on the way."""
        for name, peer in self.peers.items():
            for link, heard in peer.links.items():
                if heard.sequence >= heard.told:
                    self._outdated[name, link] = None

    def next_outdated(self) -> tuple[str, str] | None:
        """(peer, link) of which other `passes` are worth knowing than those that were asked for; None: nothing more.

        So it is when some of these are used up, and at once when anything comes that is no heartbeat of a peer: then
        no pass that was seen on the way is good for more of it.
        """
        return self._outdated.popitem()[0] if self._outdated else None

    def passes(self, name: str, link: str) -> list[int]:
        """Those of what this peer sends next, as far as it has not come over this link; none: nothing has yet."""
        peer = self.peers[name]
        if peer.passes is None or link not in peer.links:
            return []
        heard = peer.links[link]
        heard.told = heard.sequence + 1
        return peer.passes.of(range(heard.told, heard.told + AHEAD), peer.key_id, self.keys)

    def _addressed(self, heartbeat: wire.Heartbeat) -> tuple[PeerLife, wire.Seen]:
        if heartbeat.cluster != self._cluster:
            raise wire.Rejected("cluster")
        if (heartbeat.node, heartbeat.life) == (self._me, self._life):
            raise wire.Rejected("own")
        if heartbeat.node not in self.peers:
            raise wire.Rejected("stranger")
        if self._me not in heartbeat.seen:
            raise wire.Rejected("misdirected")
        return self.peers[heartbeat.node], heartbeat.seen[self._me]

    def _place(self, heartbeat: wire.Heartbeat, peer: PeerLife, seen: wire.Seen, now_s: float, link: str) -> None:
        """Which life is it of, and does it prove that?"""
        echo = dict(seen.lives).get(self._life, 0)
        if heartbeat.life == peer.life:
            if not echo or peer.links.get(link, LinkLife()).came_before(heartbeat.sequence):
                raise wire.Rejected("replayed")
            if peer.over is not None and echo <= peer.over:
                raise wire.Rejected("posthumous")
            if not self._hear_link(heartbeat, peer, now_s, link):
                self._counters.add("heartbeat_overtaken")
            elif heartbeat.sequence > peer.sequence:
                self._accept(heartbeat, peer, seen, echo, now_s)
            else:
                self._counters.add("heartbeat_copied")
        elif echo > peer.echo:
            self._begin_life(heartbeat, peer, now_s)
            self._hear_link(heartbeat, peer, now_s, link)
            self._accept(heartbeat, peer, seen, echo, now_s)
        else:
            self._consider(heartbeat, peer, now_s, link)

    def _hear_link(self, heartbeat: wire.Heartbeat, peer: PeerLife, now_s: float, link: str) -> bool:
        """Is it the latest over this link?"""
        heard = peer.links.setdefault(link, LinkLife())
        again = heard.sequence > 0 and not heard.up
        if not heard.note(heartbeat.sequence):
            return False
        if again:
            self._notes.append(Note("heartbeats come again", {"peer": heartbeat.node, "link": link}, warning=False))
        heard.heard_s, heard.up = now_s, True
        if not heard.told or heard.sequence >= heard.told + USED - 1:
            self._outdated[heartbeat.node, link] = None
        return True

    def _begin_life(self, heartbeat: wire.Heartbeat, peer: PeerLife, now_s: float) -> None:
        if peer.alive:
            self._lose(heartbeat.node, "restarted")
        peer.candidates.pop(heartbeat.life, None)
        peer.life, peer.over = heartbeat.life, None
        peer.passes = Passes(self._cluster, heartbeat.node, heartbeat.life)
        peer.began_s, peer.links = now_s, {}
        peer.awake_s, peer.our_awake_s = heartbeat.awake_ms / 1000, self._awake_s(now_s)
        self._beat_s = now_s  # let it know at once that it is heard

    def _accept(self, heartbeat: wire.Heartbeat, peer: PeerLife, seen: wire.Seen, echo: int, now_s: float) -> None:
        interval_s = now_s - peer.heard_s
        if peer.alive and interval_s > self.timing.warntime_s:
            self._counters.add("heartbeat_late")
            if self._counters.worth_logging("heartbeat_late", now_s):
                self._note("late heartbeat", peer=heartbeat.node, interval_ms=round(interval_s * 1000))
        slept_s = self._slept(heartbeat, peer, now_s)
        peer.sequence, peer.echo = heartbeat.sequence, max(peer.echo, echo)
        peer.alive, peer.over, peer.config = True, None, heartbeat.config
        peer.heard_s, peer.deadline_s = now_s, now_s + self.timing.deadtime_s
        self._counters.add("heartbeat_received")
        if heartbeat.report.phase is Phase.LEFT:
            self.declare(heartbeat.node, "left")
        else:
            self._events.append(Heard(heartbeat.node, heartbeat.report, seen.hears, seen.voids, slept_s))
            for group in self._groups:
                report = heartbeat.others.get(group, ABSENT)
                self._events.append(Heard(heartbeat.node, report, seen.hears, group in seen.voids_in, slept_s, group))

    def _slept(self, heartbeat: wire.Heartbeat, peer: PeerLife, now_s: float) -> float:
        """How much less than we it was awake since its last heartbeat, in seconds; 0 within what clocks differ."""
        ours_s, theirs_s = self._awake_s(now_s), heartbeat.awake_ms / 1000
        passed_s = ours_s - peer.our_awake_s
        behind_s = passed_s - (theirs_s - peer.awake_s)
        peer.awake_s, peer.our_awake_s = theirs_s, ours_s
        return behind_s if behind_s > self.timing.tolerance_s + passed_s * _DRIFT else 0.0

    def _consider(self, heartbeat: wire.Heartbeat, peer: PeerLife, now_s: float, link: str) -> None:
        candidate = peer.candidates.get(heartbeat.life)
        if candidate is None:
            while len(peer.candidates) >= MAX_CANDIDATES:
                self._dismiss(peer, next(iter(peer.candidates)))
            peer.candidates[heartbeat.life] = _Candidate(heartbeat.sequence, now_s, link)
            self._beat_s = min(self._beat_s, max(now_s, self._last_beat_s + self.timing.keepalive_s / 4))
        elif heartbeat.sequence == candidate.sequence and link != candidate.link:
            self._counters.add("heartbeat_copied")
        elif heartbeat.sequence <= candidate.sequence:
            raise wire.Rejected("replayed")
        else:
            candidate.sequence, candidate.heard_s, candidate.link = heartbeat.sequence, now_s, link
            candidate.unproven += 1

    def _dismiss(self, peer: PeerLife, life: int) -> None:
        self._counters.add("heartbeat_replayed", peer.candidates.pop(life).unproven)

    def _reject(self, kind: str, now_s: float) -> None:
        name = f"heartbeat_{kind}"
        self._counters.add(name)
        if kind not in ("posthumous", "own") and self._counters.worth_logging(name, now_s):
            self._note("heartbeat ignored", kind=kind, count=self._counters.values[name])
        if kind != "own":
            self._outdate()

    # ---------------------------------------------------------------------------------------------------- time

    def presses(self, now_s: float) -> bool:
        """Is there anything to send or to tell beforehand?"""
        return now_s >= self._beat_s or bool(self._outdated)

    def timer(self) -> float:
        """When `handle_timer` or `datagrams_to_send` is next due."""
        return min(self._beat_s, self.deadline())

    def deadline(self) -> float:
        """When `handle_timer` will find that somebody is silent, if nothing comes until then; infinity: never."""
        return min((peer.deadline_s for peer in self.peers.values() if peer.alive), default=float("inf"))

    def handle_timer(self, now_s: float) -> None:
        """Look who is silent."""
        self.notice_lateness(now_s)
        for name, peer in self.peers.items():
            if peer.alive and now_s >= peer.deadline_s:
                self._lose(name, "silent")
            self._look_at_links(name, peer, now_s)
            old = [life for life, c in peer.candidates.items() if now_s >= c.heard_s + self.timing.deadtime_s]
            for life in old:
                self._dismiss(peer, life)

    def _look_at_links(self, name: str, peer: PeerLife, now_s: float) -> None:
        for link, heard in peer.links.items():
            if heard.up and now_s >= heard.heard_s + self.timing.deadtime_s:
                heard.up = False
                if peer.alive:  # over another link
                    self._note("no heartbeats come any more", peer=name, link=link)

    def notice_lateness(self, now_s: float) -> None:
        """Were we frozen until now?"""
        late_s = now_s - self.timer()
        if late_s <= self.timing.tolerance_s:
            return
        self._slept_s += late_s
        self._beat_s = now_s
        for peer in self.peers.values():
            peer.deadline_s = max(peer.deadline_s, now_s + self.timing.respite_s)
            for heard in peer.links.values():
                heard.heard_s += late_s
        self._counters.add("stalls")
        self._events.append(Stalled(late_s))
        self._note("this process was frozen; silence during that time does not count", for_ms=round(late_s * 1000))

    def _awake_s(self, now_s: float) -> float:
        return now_s - self._started_s - self._slept_s

    # ------------------------------------------------------------------------------------------ others' verdict

    def declare(self, name: str, cause: Cause) -> None:
        """It is known otherwise that this life is over: the process crashed or said goodbye.

        Heartbeats of this life that were on their way count no more. A crash was misjudged if one still comes that
        echoes what we send from now on; then it lives.
        """
        peer = self.peers.get(name)
        if peer is None or not peer.alive:
            return
        peer.over = _FOR_GOOD if cause == "left" else self._sequence
        self._lose(name, cause)

    def _lose(self, name: str, cause: Cause) -> None:
        self.peers[name].alive, self.peers[name].cause = False, cause
        self._events.append(Lost(name, cause))

    def next_event(self) -> Heard | Lost | Stalled | None:
        """What happened, oldest first; None: nothing more."""
        return self._events.popleft() if self._events else None

    def next_note(self) -> Note | None:
        """What is worth logging, oldest first; None: nothing more."""
        return self._notes.popleft() if self._notes else None

    def _note(self, text: str, **fields: object) -> None:
        self._notes.append(Note(text, fields))

    # -------------------------------------------------------------------------------------------- configuration

    def reconfigure(self, peers: tuple[str, ...], timing: Timing, keys: wire.Keys, config: str) -> None:
        """New timings, keys and peers from here on; what is known of peers that stay is kept."""
        self.timing, self.keys, self.config = timing, keys, config
        self.peers = {name: self.peers.get(name, PeerLife()) for name in peers}
        self._outdated = {}
        self._outdate()
