"""What a director owes its peers, and when that is paid."""

from __future__ import annotations

from dataclasses import replace

import uvloop

from ha.duties import Duties
from ha.state import Phase, State
from tests.unit.ha_pair import both, until
from tests.unit.test_ha_role import SETTINGS
from tests.unit.test_ha_sync import exchange, in_sync, some_rows

NOW_S = 100.0


def a_state(phase: Phase) -> State:
    """Of a, whose peer is b."""
    return replace(State.initial(SETTINGS, NOW_S), phase=phase)


def test_what_was_told_before_pays_no_later_debt() -> None:
    """A director that slept while another became active still has the session in which its peer had said `ack`."""
    us, peer = in_sync(some_rows(3))
    duties = Duties(("b",))
    assert duties.follow(a_state(Phase.ACTIVE))
    assert not duties.owes_more
    assert duties.follow(a_state(Phase.INIT))
    assert duties.owes_more
    us.sync.retell(10.0)
    duties.paid({"b": us.sync})
    assert duties.leads("b", a_state(Phase.INIT)), "opened while it slept, and told nobody"

    assert us.sync.snapshot_due(11.0)
    us.sync.snapshot([some_rows(5, seed=2)])
    exchange(us, peer, 11.0)
    duties.paid({"b": us.sync})
    assert not duties.leads("b", a_state(Phase.STANDBY))
    assert len(peer.rows) == 8


def test_increments_wait_while_everything_is_told_again() -> None:
    us, peer = in_sync(some_rows(1))
    us.sync.push(some_rows(2, seed=2), 10.0)
    us.sync.retell(10.0)
    assert us.sync.snapshot_due(11.0)
    us.sync.snapshot([some_rows(4, seed=3)])
    exchange(us, peer, 11.0)
    assert len(peer.rows) == 7
    assert (peer.rows[-2:] == some_rows(2, seed=2)).all(), "behind it: nothing of them is lost, and all are in order"


def test_a_handover_in_order_leaves_no_debt() -> None:
    duties = Duties(("b",))
    duties.follow(a_state(Phase.ACTIVE))
    assert not duties.follow(a_state(Phase.HANDING))
    assert duties.follow(a_state(Phase.STANDBY))
    assert not duties.owes_more
    assert not duties.leads("b", a_state(Phase.STANDBY))


def test_who_leaves_hands_over_first_and_tells_all() -> None:
    async def scenario() -> None:
        async with both() as (_, one, two):
            assert await one.failover.hand_over()
            one.failover.push(some_rows(3))  # of what clients sent meanwhile
            await one.failover.tell_all()
            assert len(two.hooks.rows) == 3
            await one.failover.leave()
            await one.task
            assert (two.role, two.hooks.holds, one.hooks.holds) == ("active", True, False)
            await until(lambda: two.failover.status().peers[0]["state"] == "left")
            assert two.hooks.gone == ["lb1"]
            assert two.failover.predecessors == {"": ("lb1", True)}
            assert not await two.failover.hand_over(), "nobody is left to hand over to"
            await two.failover.leave()
            await two.task
            assert not two.hooks.holds

    uvloop.run(scenario())
