"""What must hold, and until when at the latest: looked at a hundred times a second of virtual time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from ha.state import Phase
from lb.plan import Override, Target

if TYPE_CHECKING:
    from tests.unit.simulation.world import World

LOOK_S: Final = 0.01

DEADTIMES_TOGETHER: Final = 2
"""Two actives that reach each other both ways exist at most for so many deadtimes, at up to a fifth of loss."""

MUTE_S: Final = 0.05
"""For so long at most an active director that runs may be without a lease, as on waking: clients ask once a second."""


class Broken(AssertionError):  # noqa: N818
    """An invariant does not hold."""


class Judge:
    """faults: what went wrong, in words, with its time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.longest_together_s = 0.0
        self.longest_vacancy_s = 0.0
        self._together_s = dict.fromkeys(world.virtuals, 0.0)
        self._vacant_s = dict.fromkeys(world.virtuals, 0.0)
        self._able_s: dict[str, float] = {}
        self._mute_s: dict[str, float] = {}
        self._serving = dict.fromkeys(world.virtuals, frozenset[str]())
        self._settled_s = float("inf")
        world.at(LOOK_S, self._look)

    def accuse(self, what: str) -> None:
        """Raises Broken."""
        raise Broken(f"{self.world.now_s:.3f}: {what}")

    @property
    def together_bound_s(self) -> float:
        """See DEADTIMES_TOGETHER."""
        return DEADTIMES_TOGETHER * self.world.deadtime_s

    @property
    def vacancy_bound_s(self) -> float:
        """While somebody is able, nobody is active for so long at most.

        A node is able while it runs, can add the address and is not asked to leave. At worst the one whose turn it is
        has just started (initdead), others come before it and do not act (a deadtime each), it saw the one before
        answer for the address until its lease ran out (a second between two looks), or could not add it the first time.
        """
        settings = self.world.settings(next(iter(self.world.nodes)))
        ranks = len(self.world.nodes) * settings.deadtime_s
        return settings.initdead_s + 2 * settings.keepalive_s + settings.deadtime_s + ranks + 2.2

    def settle(self) -> None:
        """From now on nothing happens to anybody, so no role may change."""
        self._settled_s = self.world.now_s

    # -------------------------------------------------------------------------------------------------------- looks

    def _look(self) -> None:
        self._look_who_is_able()
        self._look_who_is_mute()
        for group in self.world.virtuals:
            self._look_for_two(group)
            self._look_for_vacancy(group)
            self._look_for_whims(group)
        self.world.at(LOOK_S, self._look)

    def _look_for_two(self, group: str) -> None:
        nodes = self.world.nodes
        active = [name for name, node in nodes.items() if node.phase(group) is Phase.ACTIVE]
        pairs = itertools.combinations(active, 2)
        together = any(self.world.network.hear_each_other(*pair) for pair in pairs)
        lasts_s = self._together_s[group] = self._together_s[group] + LOOK_S if together else 0.0
        self.longest_together_s = max(self.longest_together_s, lasts_s)
        if lasts_s > self.together_bound_s:
            self.accuse(f"{' and '.join(active)} are active{_for(group)} for {lasts_s:.2f} s, and hear each other")

    def _look_who_is_able(self) -> None:
        for name, node in self.world.nodes.items():
            process = node.process
            is_able = node.running and name not in self.world.take_fails and not (process and process.stopping)
            self._able_s[name] = self._able_s.get(name, 0.0) + LOOK_S if is_able else 0.0

    def _look_who_is_mute(self) -> None:
        for name, node in self.world.nodes.items():
            active = any(node.phase(group) is Phase.ACTIVE for group in self.world.virtuals)
            mute = active and not node.kernel.may_answer(self.world.now_s)
            self._mute_s[name] = self._mute_s.get(name, 0.0) + LOOK_S if mute else 0.0
            if self._mute_s[name] > MUTE_S:
                self.accuse(f"{name} is active, and must not answer for {self._mute_s[name]:.2f} s")

    def _look_for_vacancy(self, group: str) -> None:
        serves = any(node.serves(group) for node in self.world.nodes.values())
        lasts_s = self._vacant_s[group] = 0.0 if serves else self._vacant_s[group] + LOOK_S
        longest_s = min(lasts_s, max(self._able_s.values()))
        self.longest_vacancy_s = max(self.longest_vacancy_s, longest_s)
        if longest_s > self.vacancy_bound_s:
            names = [name for name, able_s in self._able_s.items() if able_s > self.vacancy_bound_s]
            self.accuse(f"nobody is active{_for(group)} for {lasts_s:.2f} s though {', '.join(names)} could be")

    def _look_for_whims(self, group: str) -> None:
        before = self._serving[group]
        serving = frozenset(name for name, node in self.world.nodes.items() if node.serves(group))
        if serving != before and self.world.now_s > self._settled_s:
            self.accuse(f"{sorted(before)} were active{_for(group)}, now {sorted(serving)}, without a cause")
        self._serving[group] = serving

    # ---------------------------------------------------------------------------------------------------------- end

    def verdict(self, last: tuple[Target, Override] | None = None) -> None:
        """All machines run and nothing has happened for a while: one is active, and the others know what it knows.

        last: what was ordered by hand since, and so is in force on all.
        """
        for group in self.world.virtuals:
            self._judge(group)
        books = {name: node.overrides for name, node in self.world.nodes.items()}
        first = next(iter(books.values()))
        if any(book != first for book in books.values()):
            self.accuse(f"the directors have different orders: {books}")
        if last and first.get(last[0], Override()) != last[1]:
            self.accuse(f"the last order was {last}, and in force is {first}")

    def _judge(self, group: str) -> None:
        nodes = self.world.nodes
        phases = {name: str(node.phase(group)) for name, node in nodes.items()}
        if sorted(phases.values()) != ["active", *["standby"] * (len(phases) - 1)]:
            self.accuse(f"in the end the directors are {phases}{_for(group)}")
        holders = [name for name, node in nodes.items() if node.has_address(group)]
        active = [name for name, node in nodes.items() if node.serves(group)]
        if holders != active:
            self.accuse(f"{active} is active{_for(group)}, but the address is at {holders}")
        clients = [client for client in self.world.segment.clients if client.group == group]
        elsewhere = [client.at for client in clients if client.at != active[0]]
        if elsewhere:
            self.accuse(f"{active[0]} is active{_for(group)}, but clients send to {elsewhere}")
        virtual = self.world.virtuals[group]
        tables = {name: node.kernel.reals(virtual, self.world.now_s) for name, node in nodes.items()}
        known = tables[active[0]]
        for name, table in tables.items():
            wrong = {key: (real, table.get(key)) for key, real in known.items() if table.get(key) != real}
            if wrong:
                self.accuse(f"{name} has {len(wrong)} of {len(known)} connections otherwise than {active[0]}: {wrong}")


def _for(group: str) -> str:
    return f" for what prefers {group}" if group else ""
