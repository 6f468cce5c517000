"""What roles and heartbeats mean for sync: which sessions are worth having, who is told everything. Sans-I/O.

A node tells everything it holds while it serves. Besides, it owes it to a peer after having opened connections that
nobody could be told of: in an earlier process, or as one of two actives. What is owed is paid when it was delivered, or
when we serve and tell everything anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ha.heartbeat import PeerLife
from ha.state import SERVING, Phase, Role, State
from ha.sync import Sync


class Duties:
    """predecessor: the peer that was heard last as active; empty: none was. role: as of the last `follow`.

    owes_more: with that, peers were owed what they were not before: what they were told until then is not all.
    """

    def __init__(self, peers: tuple[str, ...]) -> None:
        self.predecessor = ""
        self.role: Role = "init"
        self._owing = set(peers)
        self.owes_more = False
        self._heard: dict[str, tuple[bool, int]] = {}

    def follow(self, state: State) -> bool:
        """Look at our own role. Has it changed?"""
        self.predecessor = next(iter(state.serving), self.predecessor)
        self.owes_more = self.role == "active" and state.phase is Phase.INIT
        if state.role == self.role:
            return False
        if self.owes_more:
            self._owing = set(state.settings.peers)  # connections made here while another was active, too
        if state.phase in SERVING:
            self._owing = set()
        self.role = state.role
        return True

    def changed(
        self, lives: Mapping[str, PeerLife], open_lives: Mapping[str, int]
    ) -> tuple[list[str], list[str], list[str]]:
        """Look at the peers. open_lives: of those with a session, which life it is with.

        Returns whose session is worth nothing (with a dead or former process), to whom to connect now, and who left.
        """
        drop, knock, left = [], [], []
        for name, life in lives.items():
            before, is_now = self._heard.get(name, (False, 0)), (life.alive, life.life)
            if before == is_now:
                continue
            self._heard[name] = is_now
            stale = not life.alive or open_lives.get(name) != life.life
            if name in open_lives and not life.left and stale:
                drop.append(name)  # who left says goodbye there, too
            if life.alive:
                knock.append(name)
            elif life.left:
                left.append(name)
        return drop, knock, left

    def paid(self, syncs: Mapping[str, Sync]) -> None:
        """Look at what was delivered."""
        self._owing -= {name for name, sync in syncs.items() if sync.delivered}

    def leads(self, name: str, state: State) -> bool:
        """Is this peer to be told everything?"""
        return state.phase in SERVING or name in self._owing


def told_by_peer(groups: Iterable[str], led: frozenset[str]) -> frozenset[str]:
    """Of which of all groups a peer tells us everything, while we tell it everything of some.

    Of the others; or, if there are none, it may have as much to tell as we: one of us has just begun, or yields.
    """
    return frozenset(groups) - led or frozenset(groups)
