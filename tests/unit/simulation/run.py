"""One run from its seed: a cluster, its weather, what befalls it; and what is left at its end."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from tests.unit.simulation.judge import Broken
from tests.unit.simulation.world import FAULTS, World

SETTLE_S: Final = 14.0
"""After the last fault roles may go on moving for so long: a handover that fails, then the rest, then failing back."""

SPLIT: Final = 0.4
"""Part of the clusters in which each director has virtuals that prefer it."""

LEAVE_S: Final = 20.0
"""For so long at most `lbctl down` takes: a handover a group, each of which may be in vain."""

CALM_S: Final = 8.0
"""For so long afterwards nothing may change."""


@dataclass(frozen=True)
class Result:
    """broken: which invariant does not hold; empty: all do. story: what happened, a line each."""

    seed: int
    broken: str
    digest: str
    opened: int
    lost: int
    together_s: float
    vacant_s: float
    story: list[str]


def run(seed: int) -> Result:
    """The same for the same seed, on any machine."""
    chance = Random(f"plan {seed}")
    nodes = ("a", "b", "c")[: chance.choice((2, 2, 3))]
    world = World(
        nodes=nodes,
        seed=seed,
        loss=chance.choice((0.0, 0.0, 0.01, 0.05, 0.2)),
        repeats=chance.choice((0.0, 0.1)),
        delay_s=chance.choice((0.001, 0.01, 0.05)),
        skew=chance.choice((0.0, 1e-4, 5e-4)),
        auto_failback=chance.random() < 0.4,
        clients=4,
        spare=chance.random() < 0.3,
        groups=nodes[1:] if chance.random() < SPLIT else (),
    )
    broken = ""
    try:
        _befall(world, chance)
    except Broken as error:
        broken = str(error)
    clients, judge = world.segment.clients, world.judge
    return Result(
        seed,
        broken,
        world.digest,
        sum(client.opened for client in clients),
        sum(client.lost for client in clients),
        judge.longest_together_s,
        judge.longest_vacancy_s,
        world.story,
    )


def _befall(world: World, chance: Random) -> None:
    if chance.random() < 0.8:
        world.run(4.0)
    for _ in range(chance.randrange(1, 10)):
        world.do(chance.choice(sorted(FAULTS)), chance.choice(sorted(world.nodes)))
        world.run(chance.choice((0.01, 0.1, 0.5, 1.0, 3.0)) * chance.random())
    world.run(chance.choice((0.0, 4.0)))
    world.take_fails.clear()
    world.do("heal", "a")
    world.network.loss = 0.0
    for _ in range(int(LEAVE_S / 0.5)):  # who is leaving hands over one group after the other
        world.run(0.5)
        if not world.leaving:
            break
    world.heal()
    for name in world.nodes:
        world.witness(name, 1)
    world.run(SETTLE_S)
    world.judge.settle()
    last = world.order(chance.choice(sorted(world.nodes)))
    world.run(CALM_S)
    world.be_quiet()
    world.judge.verdict(last)
