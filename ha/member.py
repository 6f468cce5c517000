"""One director's part in the cluster: heartbeats and roles together, without sockets, clocks and hooks. Sans-I/O.

A director has a role for each group of virtual addresses: for "", those that name no preferred node of their own, and
for each node that others name, by its name. The roles share heartbeats and what is known of peers by them, and no more:
each is a state of `ha.role`, and knows nothing of the others.

Call what happened (`receive_datagram`, `handle_timer` when `timer()` is due, `happened`), and afterwards send all of
`datagrams_to_send`, carry out every `next_action` in order, and log every `next_note`. `ha.failover` does that with
real sockets, the simulation in the tests with a made-up network.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from ha import wire
from ha.counters import Counters
from ha.heartbeat import Heartbeats, Note, Spare
from ha.role import step
from ha.state import Action, Cause, Event, Heard, Lost, Phase, Settings, Stalled, State, Tick
from ha.timing import Timing


class Member:
    """See the module's head. life: a random number above 0, new at each start. groups: besides "", their names.

    states: by group. state: that of "".
    """

    def __init__(
        self,
        cluster: str,
        settings: Settings,
        warntime_s: float,
        keys: wire.Keys,
        life: int,
        counters: Counters,
        now_s: float,
        groups: tuple[str, ...] = (),
    ) -> None:
        timing = Timing(settings.keepalive_s, warntime_s, settings.deadtime_s)
        self.states = {group: State.initial(_of(group, settings), now_s) for group in ("", *groups)}
        self.heartbeats = Heartbeats(cluster, settings.me, settings.peers, timing, keys, life, counters, now_s, groups)
        self._actions: deque[tuple[str, Action]] = deque()
        self._notes: deque[Note] = deque()
        self._said: dict[tuple[str, str], Heard] = {}

    @property
    def state(self) -> State:
        """Of the addresses that name no preferred node of their own; the only one where none does."""
        return self.states[""]

    def receive_datagram(self, data: bytes, now_s: float, link: str = "") -> bool:
        """Something arrived over a link. Is there anything to do for it, but to be called when `timer()` was due?"""
        due_s = self.timer()
        self.heartbeats.receive_datagram(data, now_s, link)
        return self._follow(now_s) or self.heartbeats.presses(now_s) or self.timer() < due_s

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
        """To be taken after each `datagrams_to_send` that was not empty, and sent when they are due."""
        return self.heartbeats.spares()

    def declare(self, peer: str, cause: Cause, now_s: float) -> None:
        """It is known otherwise that a peer's process is gone."""
        self._wake(now_s)
        self.heartbeats.declare(peer, cause)
        self._follow(now_s)

    def happened(self, event: Event, now_s: float, group: str | None = None) -> None:
        """In one group, or in all. Raises IllegalTransition, Refused; nothing has changed in that group then."""
        self._wake(now_s)
        for name in self.states if group is None else (group,):
            self._step(event, now_s, name)

    def _wake(self, now_s: float) -> None:
        """Whatever comes first after a stall, nothing is decided or said before the stall is known."""
        self.heartbeats.notice_lateness(now_s)
        self._follow(now_s)

    def _step(self, event: Event, now_s: float, group: str) -> None:
        before = self.states[group]
        state, actions = step(before, event, now_s)
        self.states[group] = state
        self._actions.extend((group, action) for action in actions)
        self._tell(before, event, now_s, group)
        self.heartbeats.say(state.report, state.voided, now_s, group)

    def next_action(self) -> tuple[str, Action] | None:
        """What is to be done for which group, oldest first; None: nothing more."""
        return self._actions.popleft() if self._actions else None

    def next_note(self) -> Note | None:
        """What is worth logging, oldest first; None: nothing more."""
        return self._notes.popleft() if self._notes else self.heartbeats.next_note()

    def reconfigure(self, settings: Settings, warntime_s: float, keys: wire.Keys, config: str) -> None:
        """New timings, keys and peers from here on. settings.me stays who it is, and the groups which they are."""
        timing = Timing(settings.keepalive_s, warntime_s, settings.deadtime_s)
        self.heartbeats.reconfigure(settings.peers, timing, keys, config)
        self._said = {}
        for group, state in self.states.items():
            peers = {name: peer for name, peer in state.peers.items() if name in settings.peers}
            self.states[group] = replace(state, settings=_of(group, settings), peers=peers)

    def _follow(self, now_s: float) -> bool:
        """Take what heartbeats have told. Was any of it new?"""
        new = False
        while event := self.heartbeats.next_event():
            if self._is_new(event):
                new = True
                for group in (event.group,) if isinstance(event, Heard) else self.states:
                    self._step(event, now_s, group)
        return new

    def _is_new(self, event: Heard | Lost | Stalled) -> bool:
        """Whoever says the same again has changed nothing."""
        if isinstance(event, Lost):
            self._said = {said: before for said, before in self._said.items() if said[0] != event.peer}
        if not isinstance(event, Heard):
            return True
        before = self._said.get((event.peer, event.group))
        self._said[event.peer, event.group] = event
        return event != before or event.slept_s > 0

    def _tell(self, before: State, event: Event, now_s: float, group: str) -> None:
        """Log what a reader of the log needs to understand a change of roles."""
        state = self.states[group]
        if isinstance(event, Lost) and not group:
            self._notes.append(Note("peer lost", {"peer": event.peer, "cause": event.cause}, event.cause != "left"))
        if isinstance(event, Heard) and not group:
            peer = before.peers.get(event.peer)
            if peer is None or not peer.alive:
                fields: dict[str, object] = {"peer": event.peer, "role": str(event.report.phase)}
                self._notes.append(Note("peer heard", fields, warning=False))
        if state.phase is not before.phase:
            fields = {"was": str(before.phase), "now": str(state.phase), "after": type(event).__name__}
            if group:
                fields["preferred"] = group
            if state.phase is Phase.HANDING:
                fields["heir"] = state.heir
            fields["after_s"] = round(now_s - before.entered_s, 3)
            self._notes.append(Note("role", fields, warning=False))
        rivals = state.mutual - before.mutual if before.phase is Phase.ACTIVE else frozenset()
        if rivals:
            stays = state.phase is Phase.ACTIVE
            self._notes.append(Note("another director is active", {"peers": sorted(rivals), "we_stay": stays}))


def _of(group: str, settings: Settings) -> Settings:
    """The same for a group: its preferred node is what it is called by."""
    return replace(settings, preferred=group) if group else settings
