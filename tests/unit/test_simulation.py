"""Clusters in virtual time (`tests.unit.simulation`): the invariants hold, and what breaks one is found out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ha.state import Ask, GiveUp, Phase, State
from ha.sync import Sync
from lb import byhand
from lb.byhand import Book, Order
from lb.connections import Ours, Rows
from lb.plan import Override, Overrides
from tests.unit.simulation.judge import Broken
from tests.unit.simulation.kernel import REALS, SERVICE, VIRTUALS
from tests.unit.simulation.process import Process
from tests.unit.simulation.run import run
from tests.unit.simulation.world import World

SPLIT = {"a": "active", "b": "standby"}
TARGET = (SERVICE.key, REALS[0])
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("ten", range(10))
def test_a_hundred_clusters(ten: int) -> None:
    for seed in range(10 * ten, 10 * ten + 10):
        assert not (result := run(seed)).broken, f"script/fuzz failover 1 {seed}: {result.broken}"


def test_a_seed_replays_exactly_whatever_the_order_of_sets_is() -> None:
    code = "from tests.unit.simulation.run import run; print(run(4).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def whole(**kwargs: object) -> World:
    """Two directors with clients, after a while."""
    world = World(clients=4, **kwargs)  # type: ignore[arg-type]
    world.run(5.0)
    return world


def judge(world: World) -> None:
    """As at the end of a run."""
    world.be_quiet()
    world.judge.verdict()


def lost(world: World) -> int:
    """Connections."""
    return sum(client.lost for client in world.segment.clients)


@pytest.mark.parametrize("fault", ["standby", "down", "crash", "crash and start"])
def test_no_connection_is_lost_where_the_packet_path_lives_on(fault: str) -> None:
    world = whole()
    world.do(fault, "a")
    world.run(20.0)
    assert world.phases()["b"] == "active"
    assert sum(client.opened for client in world.segment.clients) > 10
    assert lost(world) == 0


@pytest.mark.parametrize("fault", ["standby", "down", "crash", "crash and start", "power cut", "cut off", "freeze"])
def test_who_is_left_has_all_virtuals_and_gives_back_those_that_prefer_the_other(fault: str) -> None:
    world = whole(groups=("b",), auto_failback=True)
    assert (world.phases(), world.phases("b")) == (SPLIT, {"a": "standby", "b": "active"})
    world.do(fault, "b")
    world.run(1.5)
    assert [world.nodes["a"].phase(group) for group in world.virtuals] == [Phase.ACTIVE, Phase.ACTIVE]
    world.heal()
    if fault == "standby":  # what was moved by hand stays moved
        assert world.command("b", Ask(), "b")
    world.run(6.0)
    assert (world.phases(), world.phases("b")) == (SPLIT, {"a": "standby", "b": "active"})
    judge(world)


def test_no_connection_is_lost_when_one_group_moves() -> None:
    world = whole(groups=("b",))
    for node, group in (("b", "b"), ("a", "b"), ("a", ""), ("b", "")):
        assert world.command(node, GiveUp(), group)
        world.run(8.0)
    judge(world)
    assert lost(world) == 0


def test_a_session_that_the_peer_gave_up_unheard_is_found_out() -> None:
    """As the simulation's seed 9 showed it: the later node would have waited for ever, and called itself in sync."""
    world = whole()
    world.do("unplug", "b")
    world.do("freeze", "b")
    world.run(3.0)  # a has lost b, and its reset went nowhere
    world.do("heal", "b")
    world.run(7.0)
    one, two = world.nodes["a"].process, world.nodes["b"].process
    assert one
    assert two
    assert one.pipes["b"] is two.pipes["a"]


def test_the_one_that_stays_announces_also_if_the_other_yields_before_it_is_known_to_hear() -> None:
    """Who yields first is heard as active only by heartbeats that do not say yet that they hear the one who stays."""
    for moment in range(10):
        world = whole()
        world.do("cut off", "b")
        world.run(3.0 + moment / 100)
        world.do("mend", "b")
        world.run(10.0)
        assert {client.at for client in world.segment.clients} == {"a"}


# ------------------------------------------------------------------------------------ is a fault found out?


def test_two_actives_that_never_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "outclaims", lambda _self, _name: False)
    world = whole()
    world.do("cut off", "b")
    world.run(3.0)
    world.do("mend", "b")
    with pytest.raises(Broken, match="hear each other"):
        world.run(3.0)


def test_a_vacancy_that_nobody_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    world = whole()
    monkeypatch.setattr(State, "rank", 1000)
    world.do("power cut", "a")
    with pytest.raises(Broken, match="nobody is active"):
        world.run(30.0)


def test_a_role_that_changes_without_a_cause() -> None:
    world = whole()
    world.judge.settle()
    assert world.command("a", GiveUp())
    with pytest.raises(Broken, match="without a cause"):
        world.run(1.0)


def test_rows_that_do_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sync, "push", lambda _self, _rows, _now_s: None)
    world = whole()
    with pytest.raises(Broken, match="otherwise than a"):
        world.judge.verdict()


def test_orders_that_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sync, "tell", lambda _self, _orders: None)
    world = whole()
    while not world.nodes["a"].overrides:
        world.do("order", "a")
    with pytest.raises(Broken, match="different orders"):
        world.judge.verdict()


def test_an_order_of_a_slower_clock_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byhand, "written", by_the_clock)
    world = whole()
    fast, slow = sorted(world.nodes, key=lambda name: -world.nodes[name].wall_s)
    world.nodes[fast].process.order(TARGET, Override(drained=True))  # type: ignore[union-attr]
    world.run(1.0)
    last = (TARGET, Override(weight=3))
    world.nodes[slow].process.order(*last)  # type: ignore[union-attr]
    world.run(1.0)
    with pytest.raises(Broken, match=r"different orders|the last order was"):
        world.judge.verdict(last)


def by_the_clock(book: Book, wanted: Overrides, wall_ns: int) -> Book:
    """As `byhand.written`, but for what it is for."""
    return {**book, **{target: Order(override, wall_ns) for target, override in wanted.items()}}


def test_two_actives_of_one_group_that_never_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    world = whole(groups=("b",))
    yields = State.outclaims
    monkeypatch.setattr(State, "outclaims", lambda s, name: s.settings.preferred != "b" and yields(s, name))
    world.do("cut off", "b")
    world.run(3.0)
    world.do("mend", "b")
    with pytest.raises(Broken, match=r"for what prefers b .* hear each other"):
        world.run(3.0)


def test_a_group_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = whole(groups=("b",))
    ranked = State.__dict__["rank"].fget
    monkeypatch.setattr(State, "rank", property(lambda s: 1000 if s.settings.preferred == "b" else ranked(s)))
    world.do("power cut", "b")
    with pytest.raises(Broken, match="nobody is active for what prefers b"):
        world.run(30.0)


def test_rows_of_one_group_that_do_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    push = Sync.push
    monkeypatch.setattr(Sync, "push", lambda s, rows, now_s: push(s, rows[rows["virtual"] == int(VIRTUALS[0])], now_s))
    world = whole(groups=("b",))
    with pytest.raises(Broken, match="otherwise than b"):
        world.judge.verdict()


def test_a_lease_that_anothers_announcement_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "claimed", lambda _self, _group: None)
    with pytest.raises(Broken, match="must not answer"):
        whole(groups=("b",))


def test_a_row_with_another_real(monkeypatch: pytest.MonkeyPatch) -> None:
    world = whole()
    standby = world.nodes["b"].kernel
    true_install = standby.install

    def installed_wrongly(rows: Rows, ours: Ours, now_s: float) -> None:
        true_install(rows, ours, now_s)
        for held in standby.maps.connections.values():
            held.real = next(iter(standby.maps.reals))

    monkeypatch.setattr(standby, "install", installed_wrongly)
    connections = [connection for client in world.segment.clients for connection in client.connections]
    for _ in range(100):
        world.run(0.3)
        if any(c.real not in (None, REALS[0]) and "b" in c.told for c in connections):
            break
    world.do("standby", "a")
    with pytest.raises(Broken, match="knowing that it is with"):
        world.run(10.0)
