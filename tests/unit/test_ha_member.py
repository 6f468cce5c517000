"""Whole clusters of `ha.member` on a made-up network: who is active after what, and never two for long."""

from __future__ import annotations

from typing import Any

import pytest

from ha.state import Ask, GiveUp
from tests.unit.simulation.world import World


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
    world.do("power cut", "a")
    world.run(2.9)
    assert world.phases()["b"] == "init"
    world.run(0.3)
    assert world.phases()["b"] == "active"


@pytest.mark.parametrize("noticed", [True, False])
def test_crash_of_the_active(noticed: bool) -> None:
    world = settled()
    world.do("crash" if noticed else "power cut", "a")
    world.run(0.06 if noticed else 0.3)
    assert world.phases()["b"] == ("active" if noticed else "standby")
    world.run(0.4)
    assert world.phases()["b"] == "active"
    assert world.nodes["b"].has_address()


def test_the_crashed_one_comes_back_as_standby_without_the_address() -> None:
    world = settled()
    world.do("crash", "a")
    world.run(1.0)
    world.do("start", "a")
    assert world.nodes["a"].has_address(), "the kernel kept it"
    world.run(1.0)
    assert world.phases() == {"a": "standby", "b": "active"}
    assert not world.nodes["a"].has_address()


def test_a_process_that_is_restarted_at_once_loses_the_role_to_the_standby() -> None:
    world = settled()
    world.do("crash and start", "a")
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
    world.do("freeze", "a")
    world.run(0.4)
    assert world.phases()["b"] == "standby"
    world.run(0.4)
    assert world.phases()["b"] == "active"
    world.run(20.0)
    world.do("thaw", "a")
    world.run(0.2)
    assert world.phases()["b"] == "active"
    assert world.phases()["a"] in ("init", "standby")
    assert not world.nodes["a"].has_address()


def test_a_paused_machine_whose_clock_stood_still_yields_too() -> None:
    world = settled()
    world.do("freeze", "a")
    world.run(30.0)
    world.do("thaw a paused machine", "a")
    world.run(0.4)
    assert world.phases()["b"] == "active"
    assert not world.nodes["a"].has_address()


def test_a_frozen_standby_declares_nobody_dead() -> None:
    world = settled()
    world.do("freeze", "b")
    world.run(10.0)
    world.do("thaw", "b")
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
        assert not world.nodes["b"].has_address()


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
    assert world.judge.longest_together_s == 0.0


def test_standby_is_refused_when_nobody_is_able() -> None:
    world = settled()
    world.do("crash", "b")
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
    world.do("crash", "a")
    world.run(1.0)
    world.do("start", "a")
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
    world.stop("a")
    world.run(0.06)
    assert world.phases()["b"] == "active"


def test_who_loses_the_carrier_hands_over_by_another_link() -> None:
    world = settled(spare=True)
    world.do("unplug", "a")
    world.run(0.3)
    assert world.phases() == {"a": "standby", "b": "active"}
    world.do("mend", "a")
    world.run(10.0)
    assert world.phases() == {"a": "standby", "b": "active"}


def test_who_loses_the_only_cable_yields_when_it_is_back() -> None:
    world = settled()
    world.do("unplug", "a")
    world.run(3.0)
    assert world.phases() == {"a": "active", "b": "active"}
    world.do("mend", "a")
    world.run(1.0)
    assert world.phases() == {"a": "standby", "b": "active"}


def test_a_standby_without_a_carrier_is_handed_nothing() -> None:
    world = settled(spare=True)
    world.do("unplug", "b")
    world.run(0.3)
    assert not world.command("a", GiveUp())
    assert world.phases()["a"] == "active"


def test_a_dead_link_is_no_failover() -> None:
    world = settled(spare=True)
    world.do("spare out", "a")
    world.run(5.0)
    assert world.phases() == {"a": "active", "b": "standby"}


@pytest.mark.parametrize("order", ["abcd", "dbca"])
def test_standbys_take_over_in_the_order_of_the_file(order: str) -> None:
    world = settled(nodes=tuple(order))
    for name in order:
        assert world.phases()[name] == "active"
        world.do("power cut", name)
        world.run(3.0)


def test_who_took_over_without_a_carrier_announces_when_it_is_back() -> None:
    """As the simulation's seed 9141 showed it: clients went on sending to the packet path of the one that had died."""
    world = settled(clients=2)
    world.do("unplug", "b")
    world.do("crash", "a")
    world.run(8.0)
    assert world.phases()["b"] == "active"
    world.do("mend", "b")
    world.run(3.0)
    assert {client.at for client in world.segment.clients} == {"b"}


def test_the_active_announces_when_a_peer_returns() -> None:
    """As the simulation's seed 9618 showed it: that one had been active, too, and was never heard to be."""
    world = settled(clients=2)
    world.do("cut off", "b")
    world.run(8.0)
    assert "b" in {client.at for client in world.segment.clients}
    world.do("power cut", "b")
    world.do("heal", "b")
    world.run(3.0)
    assert world.phases() == {"a": "active", "b": "standby"}
    assert {client.at for client in world.segment.clients} == {"a"}


def test_whatever_comes_first_after_a_stall_nothing_is_said_before_it_is_known() -> None:
    """As the simulation's seed 777251 showed it: news of the carrier were handled before the timer, and the heartbeat
    that they led to did not say that its sender had slept; so the one that had taken over yielded."""
    for seed in range(8):
        world = settled(seed=seed)
        world.do("freeze", "a")
        world.run(5.0)
        assert world.phases()["b"] == "active"
        world.nodes["a"].carrier_changed()
        world.do("thaw", "a")
        world.run(1.0)
        assert world.phases() == {"a": "standby", "b": "active"}
