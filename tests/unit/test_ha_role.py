"""The role table: every pair of phase and event is either in it or refused without a trace."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ha.role import TABLE, IllegalTransition, Refused, markdown, step
from ha.state import (
    FACTS,
    HANDOVER_S,
    Action,
    Announce,
    Ask,
    Cause,
    Contested,
    Event,
    Finished,
    GiveUp,
    Heard,
    Hush,
    Impaired,
    Leave,
    Lost,
    Peer,
    Phase,
    Release,
    Report,
    Settings,
    Stalled,
    State,
    Synced,
    Take,
    TakeFailed,
    Taken,
    Tick,
    Witnessed,
)

SETTINGS = Settings("a", ("a", "b", "c"), 0.1, 0.5, 3.0, preferred="a")
NOW_S = 100.0
EVENTS: tuple[Event, ...] = (
    Heard("b", Report(Phase.STANDBY, synced=True)),
    Lost("b", "silent"),
    Synced(frozenset({"b"})),
    Witnessed(1),
    Contested("192.0.2.1 is held by 02:00:00:00:00:01"),
    Impaired(True),
    Stalled(1.0),
    Tick(),
    Taken(7),
    TakeFailed(),
    GiveUp(),
    Ask(),
    Leave(),
)
LEGAL: dict[Phase, set[type[Event]]] = {
    Phase.INIT: {Leave},
    Phase.STANDBY: {Ask, Leave},
    Phase.TAKING: {Taken, TakeFailed, Leave},
    Phase.ACTIVE: {GiveUp, Leave},
    Phase.HANDING: {Leave},
    Phase.LEFT: {Taken, TakeFailed},
}
"""Besides facts, which are legal everywhere."""


def a_state(phase: Phase) -> State:
    """a, in that phase, with b as an able standby, or as the active that a is in sync with."""
    serves = phase in (Phase.ACTIVE, Phase.HANDING)
    other = Report(Phase.STANDBY, synced=True) if serves else Report(Phase.ACTIVE, claimed_ns=5)
    return State(
        SETTINGS, 90.0, 95.0, phase, claimed_ns=3 if serves else 0, heir="b" if phase is Phase.HANDING else "",
        peers={"b": Peer(other)}, synced_with=frozenset({"b"}),
    )  # fmt: skip


def test_every_event_is_tried() -> None:
    assert {type(event) for event in EVENTS} == set(Event.__args__)
    assert set(FACTS) == set(Event.__args__) - {Taken, TakeFailed, GiveUp, Ask, Leave}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_pair_is_in_the_table_or_refused(phase: Phase, event: Event) -> None:
    state = a_state(phase)
    before = replace(state)
    if type(event) in LEGAL[phase] or isinstance(event, FACTS):
        after, _ = step(state, event, NOW_S)
        targets = {row.to for row in TABLE if row.phase is phase and isinstance(event, row.on)}
        assert after.phase in targets | {phase}
    else:
        with pytest.raises(IllegalTransition, match=f"{type(event).__name__}.*{phase}"):
            step(state, event, NOW_S)
    assert state == before


def test_the_printed_table_is_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "failover.md").read_text()
    found = re.search(r"<!-- table -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert found
    assert found[1] == markdown()


def test_active_only_after_the_address_is_up() -> None:
    alone = State.initial(Settings("a", ("a",), 0.1, 0.5, 3.0), NOW_S)
    taking, actions = step(alone, Tick(), NOW_S)
    assert (taking.phase, taking.role, actions) == (Phase.TAKING, "standby", (Take(),))
    active, actions = step(taking, Taken(wall_ns=123), NOW_S + 1)
    assert (active.phase, active.role, active.claimed_ns, actions) == (Phase.ACTIVE, "active", 123, ())


def test_an_address_that_cannot_be_added_is_left_to_others_for_a_second() -> None:
    state = State.initial(Settings("a", ("a",), 0.1, 0.5, 3.0), NOW_S)
    state, _ = step(state, Tick(), NOW_S)
    state, _ = step(state, TakeFailed(), NOW_S)
    assert (state.phase, state.report.fit) == (Phase.INIT, False)
    state, actions = step(state, Tick(), NOW_S + 0.9)
    assert actions == ()
    state, actions = step(state, Tick(), NOW_S + 1.0)
    assert actions == (Take(),)


def test_what_somebody_else_answers_for_is_not_claimed() -> None:
    state = State.initial(SETTINGS, NOW_S)
    state, _ = step(state, Contested("somebody"), NOW_S + 1)
    state, actions = step(state, Tick(), NOW_S + 60)
    assert (state.phase, actions) == (Phase.INIT, ())
    state, actions = step(state, Contested(""), NOW_S + 61)
    assert (state.phase, actions) == (Phase.TAKING, (Take(),))


def test_an_active_peer_that_is_heard_is_whoever_answered() -> None:
    """So nothing keeps us from taking over when it dies."""
    state = State.initial(SETTINGS, NOW_S)
    state, _ = step(state, Contested("b, as it turns out"), NOW_S + 1)
    state, _ = step(state, Heard("b", Report(Phase.ACTIVE, claimed_ns=5)), NOW_S + 2)
    state, _ = step(state, Contested("an answer that came late"), NOW_S + 2)
    assert state.contested == ""
    state, actions = step(state, Lost("b", "silent"), NOW_S + 10)
    assert actions == (Take(),)


def test_release_only_when_the_heir_is_active() -> None:
    state, actions = step(a_state(Phase.ACTIVE), GiveUp(), NOW_S)
    assert (state.phase, state.heir, state.role, actions) == (Phase.HANDING, "b", "active", ())
    state, actions = step(state, Heard("b", Report(Phase.TAKING)), NOW_S + 0.1)
    assert (state.phase, actions) == (Phase.HANDING, ())
    state, actions = step(state, Heard("b", Report(Phase.ACTIVE, claimed_ns=9)), NOW_S + 0.2)
    assert (state.phase, actions) == (Phase.STANDBY, (Release(), Finished()))


@pytest.mark.parametrize(
    ("event", "after_s"),
    [(Lost("b", "crashed"), 0.1), (Heard("b", Report(Phase.INIT, fit=False)), 0.1), (Tick(), HANDOVER_S)],
    ids=["crashed", "cannot add the address", "silent"],
)
def test_a_handover_that_fails_moves_nothing(event: Event, after_s: float) -> None:
    state, _ = step(a_state(Phase.ACTIVE), GiveUp(), NOW_S)
    state, actions = step(state, event, NOW_S + after_s)
    assert state.phase is Phase.ACTIVE
    assert Announce() in actions
    assert [a.error != "" for a in actions if isinstance(a, Finished)] == [True]


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (None, "b is not heard"),
        (Peer(Report(Phase.STANDBY, synced=True), alive=False), "b is not heard"),
        (Peer(Report(Phase.STANDBY)), "b is not in sync"),
        (Peer(Report(Phase.INIT)), "b is init, not standby"),
        (Peer(Report(Phase.STANDBY, synced=True, fit=False)), "b could not add the address"),
        (Peer(Report(Phase.STANDBY, synced=True), hears_me=False), "b does not hear us"),
    ],
)
def test_a_refused_standby_says_why_and_changes_nothing(peer: Peer | None, reason: str) -> None:
    state = replace(a_state(Phase.ACTIVE), peers={"b": peer} if peer else {})
    before = replace(state)
    with pytest.raises(Refused, match=reason):
        step(state, GiveUp(), NOW_S)
    assert state == before


def test_a_refused_takeover_says_why() -> None:
    with pytest.raises(Refused, match="no active peer is heard"):
        step(replace(a_state(Phase.STANDBY), peers={}), Ask(), NOW_S)
    with pytest.raises(Refused, match="b has not sent us all connections yet"):
        step(replace(a_state(Phase.STANDBY), synced_with=frozenset()), Ask(), NOW_S)


@pytest.mark.parametrize(
    ("ours", "theirs", "we_stay"),
    [
        ((10, 0), (20, 0), True),
        ((20, 0), (10, 0), False),
        ((10, 0), (10, 0), True),  # a is before b in the file
        ((20, 0), (10, 20), True),  # b took over from us, whatever its clock says
        ((10, 20), (20, 0), False),  # we took over from b
    ],
)
def test_two_actives_decide_alike(ours: tuple[int, int], theirs: tuple[int, int], we_stay: bool) -> None:
    def meets(me: str, mine: tuple[int, int], peer: str, its: tuple[int, int]) -> Phase:
        state = State(replace(SETTINGS, me=me), 90.0, 95.0, Phase.ACTIVE, claimed_ns=mine[0], replaced_ns=mine[1])
        event = Heard(peer, Report(Phase.ACTIVE, claimed_ns=its[0], replaced_ns=its[1]))
        return step(state, event, NOW_S)[0].phase

    assert (meets("a", ours, "b", theirs), meets("b", theirs, "a", ours)) == (
        (Phase.ACTIVE, Phase.INIT) if we_stay else (Phase.INIT, Phase.ACTIVE)
    )


def test_the_winner_announces_when_it_sees_the_rival_and_when_that_is_gone() -> None:
    state, actions = step(a_state(Phase.ACTIVE), Heard("b", Report(Phase.ACTIVE, claimed_ns=9)), NOW_S)
    assert (state.phase, actions) == (Phase.ACTIVE, (Announce(),))
    state, actions = step(state, Heard("b", Report(Phase.ACTIVE, claimed_ns=9)), NOW_S + 0.1)
    assert actions == ()
    state, actions = step(state, Heard("b", Report(Phase.INIT)), NOW_S + 0.2)
    assert actions == (Announce(),)


def test_who_wakes_and_was_replaced_says_nothing_of_the_address() -> None:
    """The other one does not hear us yet. An announcement would draw clients here, and end the lease there."""
    replaced = Report(Phase.ACTIVE, claimed_ns=9, replaced_ns=3)
    state, _ = step(a_state(Phase.ACTIVE), Stalled(0.8), NOW_S)
    state, actions = step(state, Heard("b", replaced, hears_me=False), NOW_S)
    assert (state.phase, actions) == (Phase.ACTIVE, (Hush(),))
    again, actions = step(replace(state, unheard=True), Tick(), NOW_S + 0.01)
    assert (again.phase, actions) == (Phase.ACTIVE, ())
    gone, actions = step(state, Lost("b", "silent"), NOW_S + 0.1)
    assert (gone.phase, actions) == (Phase.ACTIVE, (Announce(),)), "it has announced the address meanwhile"
    state, actions = step(state, Heard("b", replaced), NOW_S + 0.1)
    assert (state.phase, actions) == (Phase.INIT, (Release(),))


@pytest.mark.parametrize(("cause", "actions"), [("silent", (Hush(),)), ("crashed", ()), ("left", ())])
def test_nothing_more_is_said_of_the_address_when_a_peer_falls_silent(
    cause: Cause, actions: tuple[Action, ...]
) -> None:
    """It may have taken over behind a cut cable: whoever repeated itself would draw its clients away from it."""
    state, found = step(a_state(Phase.ACTIVE), Lost("b", cause), NOW_S)
    assert (state.phase, found) == (Phase.ACTIVE, actions)
    _, found = step(state, Heard("b", Report(Phase.INIT)), NOW_S + 1)
    assert found == (Announce(),)


def test_a_stall_renews_the_claim() -> None:
    state = replace(a_state(Phase.ACTIVE), claimed_s=NOW_S - 50)
    renewed, _ = step(state, Stalled(0.3), NOW_S)
    assert renewed.claimed_ns == 3 + 50 * 10**9
    short, _ = step(state, Stalled(0.2), NOW_S)
    assert short.claimed_ns == 3, "less than half of deadtime does not count"


def test_a_stall_prolongs_initdead() -> None:
    state = State.initial(SETTINGS, NOW_S)
    state, _ = step(state, Stalled(10.0), NOW_S + 11)
    state, actions = step(state, Tick(), NOW_S + 12.9)
    assert (state.phase, actions) == (Phase.INIT, ())
    state, actions = step(state, Tick(), NOW_S + 13.0)
    assert actions == (Take(),)
