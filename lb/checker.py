"""Runs the checks of all reals beside one another and keeps what is known of each.

Every target has its own due times and at most one probe at a time, so a real that hangs costs its own slot only. Due
times are a grid: whole intervals of the monotonic clock plus a phase that follows from the target's name. Thus checks
do not drift, do not come in step, and a reload does not move them. A slot that comes while the target's probe still
runs is left out.

Heartbeats run on the same loop, so that checks are begun a few at a time, and others have their turn in between. Where
there are more checks than this machine can do, they come late and slots are left out; nothing else is late for it.

A verdict counts only if this director was awake to hear it: an answer that came later than its timeout allows tells of
our own lateness, and one of those in a row is forgotten instead of taking every real down at once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from lb.addresses import Address
from lb.health import Change, Health, Outcome, State, step
from lb.model import Check, format_duration
from lb.probes import NotAskedError, NotYetError, Target, ask, open_tools
from lb.service import ServiceKey

log = structlog.get_logger(__name__)

TargetKey = tuple[ServiceKey, Address]

FIRST_SPACING_S = 0.001
"""First checks start within this times the number of new targets: at once for a few, no avalanche for thousands."""
AT_ONCE = 32
"""How many checks begin before others have their turn: about as many milliseconds of work as a heartbeat may wait."""
LATENESS_S = 0.1
"""How much later than its timeout a failed probe may end before the lateness is taken for our own."""
TROUBLE_SILENCE_S = 10.0
"""Least time between two log lines about this director's own trouble."""
EARLY_SPACING_S = 1.0
"""How long after a check's beginning its real may be checked beside its due times: packets get lost everywhere."""


@dataclass(slots=True, eq=False)
class _Slot:
    """A target under way.

    due_s: monotonic seconds of its next check; begun_s: of its last one. repeats: SYNs that it left unanswered since.
    void: was its last probe not counted? fault: the last that was logged.
    """

    key: TargetKey
    target: Target
    health: Health
    due_s: float
    probe: asyncio.Task[None] | None = None
    begun_s: float = -math.inf
    repeats: int = 0
    void: bool = False
    fault: str = ""


class Checker:
    """Checks reals from `configure` to `close`, and calls `on_change` after each change of a state or of an answered
    weight; the Change is None where the state stayed. not_counted, early: checks that gave no verdict, and that were
    made beside their due times.

    To be made and used inside one running event loop.
    """

    def __init__(
        self,
        on_change: Callable[[TargetKey, Health, Change | None], None],
        reach: Callable[[Target], None] = lambda _target: None,
    ) -> None:
        """reach: raises Failed or NotAskedError where there is no way yet to a target."""
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._tools = open_tools(reach)
        self._slots: dict[TargetKey, _Slot] = {}
        self._agenda: list[tuple[float, int, _Slot]] = []
        self._entries = itertools.count()
        self._wakeup: asyncio.TimerHandle | None = None
        self._probes: set[asyncio.Task[None]] = set()
        self._seeds: dict[TargetKey, State] = {}
        self._trouble_said_s = -math.inf
        self.not_counted = 0
        self.early = 0

    def seed(self, states: Mapping[TargetKey, State]) -> None:
        """States remembered from before a restart, for the targets that the next `configure` names."""
        self._seeds = dict(states)

    def configure(self, targets: Mapping[TargetKey, Target]) -> None:
        """Check these and no others.

        What is unchanged keeps its health and its timer. What is asked differently now keeps its state, so that a
        reload takes no real out, and is asked at once. What is new is asked at once.
        """
        for key in [key for key in self._slots if key not in targets]:
            self._stop(self._slots.pop(key))
        slots = self._slots
        changed = [key for key, target in targets.items() if key not in slots or slots[key].target != target]
        spread_s = FIRST_SPACING_S * len(changed)
        now_s = self._loop.time()
        for key in changed:
            target = targets[key]
            if old := slots.get(key):
                self._stop(old)
                known = old.health._replace(failed=0, passed=0)
            elif key in self._seeds:
                known = Health(self._seeds[key], now_s, "remembered from before the restart")
            else:
                known = Health(since_s=now_s)
            due_s = now_s + phase_of(key) * min(spread_s, target.check.interval)
            slots[key] = slot = _Slot(key, target, known, due_s)
            self._enter(slot)
        self._seeds = {}
        self._set_wakeup()

    def unanswered(self, repeats: Mapping[TargetKey, int]) -> None:
        """So many more SYNs came again: who left `passive` of them unanswered since its last check is asked at once.

        Of many no more than AT_ONCE: packets may be forged, and must not make more checks than can be made.
        """
        now_s, begun = self._loop.time(), 0
        for key, count in repeats.items():
            slot = self._slots.get(key)
            if slot is None or not slot.target.check.passive:
                continue
            slot.repeats += count
            waits = slot.probe is not None or slot.health.state != "up" or now_s < slot.begun_s + EARLY_SPACING_S
            if slot.repeats < slot.target.check.passive or waits or begun == AT_ONCE:
                continue
            log.debug("SYNs come again: checked at once", **_words(slot), repeats=slot.repeats)
            self._begin(slot, now_s)
            begun += 1
        self.early += begun

    def health(self, key: TargetKey) -> Health | None:
        """What is known of one target; None if it is not checked here."""
        slot = self._slots.get(key)
        return slot.health if slot else None

    def snapshot(self) -> dict[TargetKey, Health]:
        """What is known of all."""
        return {key: slot.health for key, slot in self._slots.items()}

    async def close(self) -> None:
        """Stop; returns when every probe has ended and every socket is closed."""
        if self._wakeup:
            self._wakeup.cancel()
        for slot in self._slots.values():
            self._stop(slot)
        self._slots.clear()
        await asyncio.gather(*self._probes, return_exceptions=True)
        await self._tools.close()

    def _stop(self, slot: _Slot) -> None:
        if slot.probe:
            slot.probe.cancel()

    def _begin_due(self) -> None:
        """Begin what is due, a few; the rest after others had their turn."""
        now_s, begun = time.monotonic(), 0
        while self._agenda and self._agenda[0][0] <= now_s and begun < AT_ONCE:
            due_s, _, slot = heapq.heappop(self._agenda)
            if slot.due_s == due_s and self._slots.get(slot.key) is slot:
                self._due(slot, now_s)
                begun += 1
        self._set_wakeup()

    def _set_wakeup(self) -> None:
        """Look again when the next is due."""
        if self._wakeup:
            self._wakeup.cancel()
        self._wakeup = self._loop.call_at(self._agenda[0][0], self._begin_due) if self._agenda else None

    def _enter(self, slot: _Slot) -> None:
        """Into the agenda at its due time; what stood there of it is void."""
        heapq.heappush(self._agenda, (slot.due_s, next(self._entries), slot))

    def _due(self, slot: _Slot, now_s: float) -> None:
        self._arm(slot, max(slot.due_s, now_s))
        if slot.probe is None:
            self._begin(slot, now_s)

    def _begin(self, slot: _Slot, now_s: float) -> None:
        slot.begun_s, slot.repeats = now_s, 0
        slot.probe = self._loop.create_task(self._check(slot))
        self._probes.add(slot.probe)
        slot.probe.add_done_callback(self._probes.discard)

    def _arm(self, slot: _Slot, after_s: float) -> None:
        """Ask again at the next point of the grid of its state's interval."""
        interval_s = slot.target.check.interval_while(slot.health.state)
        slot.due_s = next_due(after_s, interval_s, phase_of(slot.key))
        self._enter(slot)

    async def _check(self, slot: _Slot) -> None:
        try:
            outcome = await self._ask(slot)
        finally:
            slot.probe = None
        if outcome is not None:
            self._judge(slot, outcome)

    async def _ask(self, slot: _Slot) -> Outcome | None:
        """One outcome; None where it does not count."""
        started_s = self._loop.time()
        try:
            outcome = await ask(slot.target, self._tools)
        except NotYetError:
            return None
        except NotAskedError as error:
            self._say_trouble(str(error))
            return None
        except Exception as error:
            fault = f"fault of the check itself: {type(error).__name__}: {error}"
            if fault != slot.fault:
                log.exception("a check has a fault", **_words(slot))
                slot.fault = fault
            return Outcome(False, fault, self._loop.time() - started_s)
        late_s = outcome.latency_s - slot.target.check.timeout
        slot.void = not outcome.ok and late_s > LATENESS_S and not slot.void
        if slot.void:
            self._say_trouble(f"this director was late by {format_duration(round(late_s, 3))}")
            return None
        return outcome

    def _judge(self, slot: _Slot, outcome: Outcome) -> None:
        check = slot.target.check
        before = slot.health
        slot.health, change = step(before, outcome, check, self._loop.time())
        if change:
            if check.interval_while(change.was) != check.interval_while(slot.health.state):
                self._arm(slot, self._loop.time())
                self._set_wakeup()
            say = log.warning if slot.health.state == "down" else log.info
            say(
                f"real is {slot.health.state}", **_words(slot), reason=outcome.reason, was=change.was,
                lasted=format_duration(round(change.lasted_s, 1)),
            )  # fmt: skip
        elif slot.health.soft and (so_far := _so_far(slot.health, check)):
            log.info(f"real is still {slot.health.state}", **_words(slot), reason=outcome.reason, so_far=so_far)
        if change or slot.health.weight != before.weight:
            self._on_change(slot.key, slot.health, change)

    def _say_trouble(self, trouble: str) -> None:
        """Log that checks do not count, now and then: such trouble befalls all targets together."""
        self.not_counted += 1
        if self._loop.time() - self._trouble_said_s >= TROUBLE_SILENCE_S:
            self._trouble_said_s = self._loop.time()
            log.warning("checks are not counted", trouble=trouble)


def _so_far(health: Health, check: Check) -> str:
    """How far a real is on its way to another state; empty where that has been said: one that is held down passes
    more checks than it needs."""
    if health.state == "up":
        return f"{health.failed} of {check.failures} failures"
    if health.passed > check.rises:
        return ""
    return health.reason if health.passed == check.rises else f"{health.passed} of {check.rises} rises"


def _words(slot: _Slot) -> dict[str, str]:
    service, address = slot.key
    return {"real": str(address), "virtual": str(service), "check": slot.target.check.name}


def phase_of(key: TargetKey) -> float:
    """The target's place in every interval, 0 to 1; the same in every process."""
    service, address = key
    return zlib.crc32(f"{service} {address}".encode()) / 2**32


def next_due(after_s: float, interval_s: float, phase: float) -> float:
    """The first point of the grid after a time; one that is less than a thousandth of an interval away is that time.

    (A timer may fire a little early, and must not fire twice for it.)
    """
    return (math.floor(after_s / interval_s - phase + 0.001) + 1 + phase) * interval_s
