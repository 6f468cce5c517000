"""The sweeper: what ran out goes, reals that left make room, counts are IPVS's."""

from __future__ import annotations

import pytest

from lb import abi
from lb.bpf import Map
from lb.datapath.lasting import Sweep
from lb.service import Service
from lb.tcp import ACTIVE, TIMEOUTS_S, State
from tests.packet.world import TCP_KEY, World, meanwhile, real, tcp, udp


@pytest.mark.parametrize("state", [s for s in State if State.NONE < s < State.UDP], ids=lambda state: state.name)
def test_active_and_inactive_as_ipvs_counts(world: World, state: State) -> None:
    world.apply_reals(real(1))
    world.send(tcp("S"))
    world.edit(state=state)
    held = world.data.held()[0].destinations[0]
    assert (held.active, held.inactive) == ((1, 0) if state in ACTIVE else (0, 1))


def test_datagrams_are_never_active(world: World) -> None:
    world.apply_reals(real(1))
    world.send(udp())
    held = world.data.held()[1].destinations[0]
    assert (held.active, held.inactive) == (0, 1)


def test_only_what_ran_out_goes(world: World) -> None:
    world.send(tcp("S", 1))
    world.age(abi.ticks(TIMEOUTS_S[State.SYN_RECV]) + 1)
    world.send(tcp("S", 2))
    assert world.data.held()[0].destinations[0].active + world.data.held()[0].destinations[1].active == 1
    assert world.data.sweep() == Sweep(live=1, expired=1, released=0)
    ((key, _),) = world.entries()
    assert int(key["client_port"]) == 2
    assert world.data.sweep() == Sweep(live=1, expired=0, released=0)


def test_who_begins_anew_while_the_sweeper_looks_stays(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    own.apply(Service(TCP_KEY, "lc", (real(1), real(2))))
    for flags in ("S", "A"):
        own.send(tcp(flags))
    own.age(abi.ticks(TIMEOUTS_S[State.ESTABLISHED]) + 1)
    meanwhile(monkeypatch, Map, "remove", lambda: own.send(tcp("S")), lambda: own.send(tcp("A")))
    assert own.data.sweep() == Sweep(live=1, expired=0, released=0)
    assert len(own.entries()) == 1
    assert sum(held.active for held in own.data.held()[0].destinations) == 1
    assert own.data.sweep() == Sweep(live=1, expired=0, released=0)
    assert own.maps["loads"].mapped()["active"].sum() + own.maps["loads"].mapped()["active_fix"].sum() == 1


def used(world: World) -> int:
    """How many rows of reals are taken."""
    return int((world.maps["reals"].read()["flags"] != 0).sum())


def test_a_retired_real_makes_room_once_its_connections_ended(own: World) -> None:
    own.apply_reals(real(1), real(2))
    port = next(port for port in range(10) if own.real_of(tcp("S", port)) == 1)
    own.apply_reals(real(2))
    assert used(own) == 4
    assert own.data.sweep().released == 0
    assert own.data.sweep().released == 1, "its row of the UDP service, which had no connection"
    assert used(own) == 3
    assert own.real_of(tcp("A", port)) == 1

    own.apply_reals(real(2), real(3))
    assert used(own) == 5, "a new real does not get the row that a connection still means"
    assert own.real_of(tcp("A", port)) == 1

    own.age(abi.ticks(TIMEOUTS_S[State.ESTABLISHED]) + 1)
    assert own.data.sweep().released == 0
    assert own.data.sweep().released == 1
    assert used(own) == 4


def test_a_real_that_comes_back_between_sweeps_keeps_its_row(own: World) -> None:
    own.apply_reals(real(1), real(2))
    for _ in range(3):
        own.apply_reals(real(2))
        assert own.data.sweep().released == 0
        own.apply_reals(real(1), real(2))
        assert own.data.sweep().released == 0
    assert used(own) == 4


def test_a_real_that_came_back_and_left_again_is_idle_from_then_on(own: World) -> None:
    """A sweep before its return counts no more: since then, packets may be on their way to it again."""
    own.apply_reals(real(1), real(2))
    own.apply_reals(real(2))
    own.data.sweep()
    own.apply_reals(real(1), real(2))
    own.apply_reals(real(2))
    assert own.data.sweep().released == 0
    assert own.data.sweep().released == 2


def test_a_row_that_is_used_again_counts_from_zero(own: World) -> None:
    own.apply_reals(real(1))
    own.send(tcp("S"))
    own.forget()
    own.apply_reals()
    own.data.sweep()
    assert own.data.sweep().released == 2
    own.apply_reals(real(4))
    (held,) = own.data.held()[0].destinations
    assert (held.address, held.packets, held.bytes, held.connections) == (real(4).address, 0, 0, 0)
