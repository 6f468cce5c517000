"""The stream of a sync session between two directors in a running loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tests.unit.ha_pair import both, until


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_is_sent_after_the_end_fails_as_on_any_closed_stream(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """A session is dropped while its writer still has something to tell; another one takes its place."""

    async def scenario() -> None:
        async with both() as (_, one, two):
            link = next(iter(two.failover._links.links.values()))
            link.drop()
            await until(lambda: one.count("sync_opened") == 2)
            with pytest.raises(ConnectionResetError):
                await link._channel.send(b"more")

    run(scenario())
