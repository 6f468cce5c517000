"""A director whose loop is late listens before it judges."""

from __future__ import annotations

import pytest
import uvloop

from ha import failover
from tests.unit.ha_pair import both


def test_a_deadline_that_passes_after_the_look_whether_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with both() as (_, _, two):
            heartbeats = two.failover._member.heartbeats
            deadline_s = heartbeats.deadline()
            heartbeats.datagrams_to_send(deadline_s - 1e-3)  # in time until then
            moments = iter((deadline_s - 1e-6,))
            with monkeypatch.context() as patched:
                patched.setattr(failover, "now", lambda: next(moments, deadline_s + 1e-3))
                two.failover._on_timer()
            assert heartbeats.peers["lb1"].alive

    uvloop.run(scenario())
