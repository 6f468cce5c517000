"""Whole clusters of `ha.member` on a made-up network: who is active after what, and never two for long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha.state import Ask, GiveUp
from tests.unit.ha_world import World

TOGETHER_S = 1.0
"""Two actives that reach each other both ways exist at most so long: two deadtimes, at up to a fifth of loss."""

SETTLE_S = 12.0


def settled(**kwargs: Any) -> World:
    """A pair of which a is active and b standby."""
    world = World(**kwargs)
    world.run(2.0)
    names = list(world.nodes)
    assert world.phases() == {name: "active" if name == names[0] else "standby" for name in names}
    return world


def test_both_start_together_and_the_preferred_becomes_active() -> None:
    settled()


def test_three_start_together() -> None:
    settled(nodes=("a", "b", "c"))


def test_alone_in_the_cluster_is_active_at_once() -> None:
    world = World(nodes=("a",))
    world.run(0.1)
    assert world.phases() == {"a": "active"}


def test_alone_of_two_is_active_after_initdead() -> None:
    world = World()
    world.crash("a", noticed=False)
    world.run(2.9)
    assert world.phases()["b"] == "init"
    world.run(0.3)
    assert world.phases()["b"] == "active"


@pytest.mark.parametrize("noticed", [True, False])
def test_crash_of_the_active(noticed: bool) -> None:
    world = settled()
    world.crash("a", noticed)
    world.run(0.06 if noticed else 0.3)
    assert world.phases()["b"] == ("active" if noticed else "standby")
    world.run(0.4)
    assert world.phases()["b"] == "active"
    assert world.nodes["b"].address


def test_the_crashed_one_comes_back_as_standby_without_the_address() -> None:
    world = settled()
    world.crash("a")
    world.run(1.0)
    world.start("a")
    assert world.nodes["a"].address, "the kernel kept it"
    world.run(1.0)
    assert world.phases() == {"a": "standby", "b": "active"}
    assert not world.nodes["a"].address


def test_a_process_that_is_restarted_at_once_loses_the_role_to_the_standby() -> None:
    world = settled()
    world.crash("a", noticed=False)
    world.start("a")
    world.run(0.3)
    assert world.phases()["b"] == "active"
    world.run(1.0)
    assert world.phases() == {"a": "standby", "b": "active"}


def test_a_refused_connection_of_a_living_process_heals_itself() -> None:
    world = settled()
    world.declare("b", "a")
    world.run(1.0)
    assert world.phases() == {"a": "active", "b": "standby"}


def test_freeze_and_thaw() -> None:
    world = settled()
    world.freeze("a")
    world.run(0.4)
    assert world.phases()["b"] == "standby"
    world.run(0.3)
    assert world.phases()["b"] == "active"
    world.run(20.0)
    world.thaw("a")
    world.run(0.2)
    assert world.phases()["b"] == "active"
    assert world.phases()["a"] in ("init", "standby")
    assert not world.nodes["a"].address


def test_a_paused_machine_whose_clock_stood_still_yields_too() -> None:
    world = settled()
    world.freeze("a")
    world.run(30.0)
    world.thaw("a", clock_stood=True)
    world.run(0.4)
    assert world.phases()["b"] == "active"
    assert not world.nodes["a"].address


def test_a_frozen_standby_declares_nobody_dead() -> None:
    world = settled()
    world.freeze("b")
    world.run(10.0)
    world.thaw("b")
    world.run(1.0)
    assert world.phases() == {"a": "active", "b": "standby"}


@pytest.mark.parametrize("failback", [False, True])
def test_after_a_partition_the_one_longer_in_service_stays(failback: bool) -> None:
    for seed in range(6):  # the clocks on their walls differ by up to two hours
        world = settled(seed=seed, auto_failback=failback)
        world.partition("b")
        world.run(5.0)
        assert world.phases() == {"a": "active", "b": "active"}
        world.heal()
        world.run(0.5)
        assert world.phases() == {"a": "active", "b": "standby"}
        assert not world.nodes["b"].address


def test_an_active_that_only_one_can_hear_is_not_kept_beside_another() -> None:
    world = settled()
    world.partition("b", inward=True, outward=False)  # b hears nobody, and is heard
    world.run(2.0)
    assert world.phases() == {"a": "init", "b": "active"}


def test_an_active_that_hears_nobody_and_sees_no_witness_is_not_yielded_to() -> None:
    world = settled()
    world.witness("a", 1)
    world.partition("b", inward=True, outward=False)
    world.run(2.0)
    assert world.phases() == {"a": "active", "b": "active"}
    world.heal()
    world.run(1.0)
    assert sorted(world.phases().values()) == ["active", "standby"]


def test_standby_hands_over_and_takeover_takes_back() -> None:
    world = settled()
    assert world.command("a", GiveUp())
    world.run(0.3)
    assert world.phases() == {"a": "standby", "b": "active"}
    assert world.nodes["a"].finished == [""]
    world.run(1.0)
    assert world.command("a", Ask())
    world.run(0.3)
    assert world.phases() == {"a": "active", "b": "standby"}
    assert world.nodes["a"].finished == ["", ""]
    assert world.longest_together_s == 0.0


def test_standby_is_refused_when_nobody_is_able() -> None:
    world = settled()
    world.crash("b")
    world.run(1.0)
    assert not world.command("a", GiveUp())
    assert world.phases()["a"] == "active"


def test_a_handover_that_the_heir_cannot_finish_moves_nothing() -> None:
    world = settled()
    world.take_fails.add("b")
    assert world.command("a", GiveUp())
    world.run(1.0)
    assert world.phases()["a"] == "active"
    assert len(world.nodes["a"].finished) == 1
    assert "b" in world.nodes["a"].finished[0]


def test_the_preferred_comes_back_with_auto_failback() -> None:
    world = settled(auto_failback=True)
    world.crash("a")
    world.run(1.0)
    world.start("a")
    world.run(2.5)
    assert world.phases() == {"a": "standby", "b": "active"}
    world.run(2.0)
    assert world.phases() == {"a": "active", "b": "standby"}


def test_what_was_given_up_by_hand_is_not_taken_back() -> None:
    world = settled(auto_failback=True)
    assert world.command("a", GiveUp())
    world.run(10.0)
    assert world.phases() == {"a": "standby", "b": "active"}


def test_the_one_that_sees_more_witnesses_is_active() -> None:
    world = settled()
    world.witness("a", 2)
    world.witness("b", 2)
    world.run(1.0)
    world.witness("a", 1)
    world.run(0.3)
    assert world.phases()["a"] == "active", "not before deadtime"
    world.run(0.6)
    assert world.phases() == {"a": "standby", "b": "active"}
    world.witness("a", 2)
    world.run(10.0)
    assert world.phases() == {"a": "standby", "b": "active"}, "equal counts move nothing"


def test_the_last_one_leaves_and_the_other_takes_over_at_once() -> None:
    world = settled()
    world.leave("a")
    world.run(0.06)
    assert world.phases()["b"] == "active"


FAULTS: dict[str, Callable[[World, str], object]] = {
    "crash": lambda w, n: w.crash(n),
    "unnoticed crash": lambda w, n: w.crash(n, noticed=False),
    "start": lambda w, n: w.start(n),
    "freeze": lambda w, n: w.freeze(n),
    "thaw": lambda w, n: w.thaw(n),
    "thaw a paused machine": lambda w, n: w.thaw(n, clock_stood=True),
    "cut off": lambda w, n: w.partition(n),
    "deafen": lambda w, n: w.partition(n, outward=False),
    "mute": lambda w, n: w.partition(n, inward=False),
    "heal": lambda w, _: w.heal(),
    "standby": lambda w, n: w.nodes[n].running and w.command(n, GiveUp()),
    "takeover": lambda w, n: w.nodes[n].running and w.command(n, Ask()),
    "leave": lambda w, n: w.leave(n),
    "witness 0": lambda w, n: w.witness(n, 0),
    "witness 1": lambda w, n: w.witness(n, 1),
    "cannot take": lambda w, n: w.take_fails.add(n),
    "can take": lambda w, n: w.take_fails.discard(n),
}

SCRIPTS = st.lists(st.tuples(st.floats(0.0, 4.0), st.sampled_from(sorted(FAULTS)), st.integers(0, 2)), max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    script=SCRIPTS,
    seed=st.integers(0, 2**32),
    count=st.integers(2, 3),
    loss=st.sampled_from([0.0, 0.05, 0.2]),
    failback=st.booleans(),
)
def test_whatever_happens(
    script: list[tuple[float, str, int]], seed: int, count: int, loss: float, failback: bool
) -> None:
    """Never two actives that reach each other for long; in the end exactly one, and it alone has the address."""
    world = World(("a", "b", "c")[:count], seed, loss, repeats=0.1, delay_s=0.05, auto_failback=failback)
    for after_s, fault, number in script:
        world.run(after_s)
        FAULTS[fault](world, list(world.nodes)[number % count])
    world.take_fails.clear()
    world.heal()
    world.loss = 0.0
    for name in world.nodes:
        world.witness(name, 1)
    world.run(SETTLE_S)
    assert sorted(world.phases().values()) == ["active", *["standby"] * (count - 1)]
    holders = [name for name, node in world.nodes.items() if node.address]
    assert holders == [name for name, node in world.nodes.items() if node.serves]
    assert world.longest_together_s <= TOGETHER_S
