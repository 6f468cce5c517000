"""One director's part in the cluster: heartbeats and role together, without sockets, clocks and hooks. Sans-I/O.

Call what happened (`receive_datagram`, `handle_timer` when `timer()` is due, `happened`), and afterwards send all of
`datagrams_to_send`, carry out every `next_action` in order, and log every `next_note`. `ha.failover` does that with
real sockets, the simulation in the tests with a made-up network.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from ha import wire
from ha.counters import Counters
from ha.heartbeat import Heartbeats, Note, Spare, Timing
from ha.role import step
from ha.state import Action, Cause, Event, Heard, Lost, Phase, Settings, State, Tick


class Member:
    """See the module's head. life: a random number above 0, new at each start."""

    def __init__(
        self,
        cluster: str,
        settings: Settings,
        warntime_s: float,
        keys: wire.Keys,
        life: int,
        counters: Counters,
        now_s: float,
    ) -> None:
        timing = Timing(settings.keepalive_s, warntime_s, settings.deadtime_s)
        self.state = State.initial(settings, now_s)
        self.heartbeats = Heartbeats(cluster, settings.me, settings.peers, timing, keys, life, counters, now_s)
        self._actions: deque[Action] = deque()
        self._notes: deque[Note] = deque()

    def receive_datagram(self, data: bytes, now_s: float, link: str = "") -> bool:
        """Something arrived over a link. Did it mean anything?"""
        meant = self.heartbeats.receive_datagram(data, now_s, link)
        self._follow(now_s)
        return meant

    def handle_timer(self, now_s: float) -> None:
        """Time has passed."""
        self.heartbeats.handle_timer(now_s)
        self._follow(now_s)
        self.happened(Tick(), now_s)

    def timer(self) -> float:
        """When `handle_timer` is next due; never further away than keepalive."""
        return self.heartbeats.timer()

    def datagrams_to_send(self, now_s: float) -> list[tuple[str, bytes]]:
        """(peer, datagram), when it is time."""
        self._wake(now_s)
        return self.heartbeats.datagrams_to_send(now_s)

    def spares(self) -> list[Spare]:
        """To be taken after each `datagrams_to_send` that was not empty, and sent if we are late for the next ones."""
        return self.heartbeats.spares()

    def declare(self, peer: str, cause: Cause, now_s: float) -> None:
        """It is known otherwise that a peer's process is gone."""
        self._wake(now_s)
        self.heartbeats.declare(peer, cause)
        self._follow(now_s)

    def happened(self, event: Event, now_s: float) -> None:
        """Raises IllegalTransition, Refused; nothing has changed then."""
        self._wake(now_s)
        self._step(event, now_s)

    def _wake(self, now_s: float) -> None:
        """Whatever comes first after a stall, nothing is decided or said before the stall is known."""
        self.heartbeats.notice_lateness(now_s)
        self._follow(now_s)

    def _step(self, event: Event, now_s: float) -> None:
        before = self.state
        self.state, actions = step(before, event, now_s)
        self._actions.extend(actions)
        self._tell(before, event, now_s)
        self.heartbeats.say(self.state.report, self.state.voided, now_s)

    def next_action(self) -> Action | None:
        """What is to be done, oldest first; None: nothing more."""
        return self._actions.popleft() if self._actions else None

    def next_note(self) -> Note | None:
        """What is worth logging, oldest first; None: nothing more."""
        return self._notes.popleft() if self._notes else self.heartbeats.next_note()

    def reconfigure(self, settings: Settings, warntime_s: float, keys: wire.Keys, config: str) -> None:
        """New timings, keys and peers from here on. settings.me stays who it is."""
        timing = Timing(settings.keepalive_s, warntime_s, settings.deadtime_s)
        self.heartbeats.reconfigure(settings.peers, timing, keys, config)
        peers = {name: peer for name, peer in self.state.peers.items() if name in settings.peers}
        self.state = replace(self.state, settings=settings, peers=peers)

    def _follow(self, now_s: float) -> None:
        while event := self.heartbeats.next_event():
            self._step(event, now_s)

    def _tell(self, before: State, event: Event, now_s: float) -> None:
        """Log what a reader of the log needs to understand a change of roles."""
        if isinstance(event, Lost):
            self._notes.append(Note("peer lost", {"peer": event.peer, "cause": event.cause}, event.cause != "left"))
        if isinstance(event, Heard):
            peer = before.peers.get(event.peer)
            if peer is None or not peer.alive:
                fields: dict[str, object] = {"peer": event.peer, "role": str(event.report.phase)}
                self._notes.append(Note("peer heard", fields, warning=False))
        if self.state.phase is not before.phase:
            fields = {"was": str(before.phase), "now": str(self.state.phase), "after": type(event).__name__}
            if self.state.phase is Phase.HANDING:
                fields["heir"] = self.state.heir
            fields["after_s"] = round(now_s - before.entered_s, 3)
            self._notes.append(Note("role", fields, warning=False))
        rivals = self.state.mutual - before.mutual if before.phase is Phase.ACTIVE else frozenset()
        if rivals:
            stays = self.state.phase is Phase.ACTIVE
            self._notes.append(Note("another director is active", {"peers": sorted(rivals), "we_stay": stays}))
