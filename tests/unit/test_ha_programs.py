"""The operator's own programs, really run: in which order, what a failure leads to, who is fenced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ha.programs import Programs
from lb.errors import NetworkError
from lb.model import Cluster
from tests.unit.ha_pair import a_cluster, addresses, until


def program(directory: Path, name: str, body: str = "") -> str:
    """One that writes down its name and its words, and then does something else."""
    path = directory / name
    log = directory / "log"
    path.write_text(f'#!/bin/sh\necho "{name} $* $LBCTL_CLUSTER $LBCTL_NODE" >> {log}\n{body}\n')
    path.chmod(0o755)
    return str(path)


def cluster_with(**ha: object) -> Cluster:
    one, two, _ = addresses()
    return a_cluster(694, (one, two), **ha)


@contextlib.asynccontextmanager
async def running(cluster: Cluster, failed: Callable[[], None] = lambda: None) -> AsyncIterator[Programs]:
    programs = Programs(cluster, "lb1", failed)
    task = asyncio.create_task(programs.run())
    try:
        yield programs
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def said(directory: Path) -> list[str]:
    """What programs wrote down."""
    return (directory / "log").read_text().splitlines()


def test_resources_start_left_to_right_and_stop_right_to_left(tmp_path: Path) -> None:
    cluster = cluster_with(resources=(program(tmp_path, "one") + " 'an argument'", program(tmp_path, "two")))

    async def scenario() -> None:
        async with running(cluster) as programs:
            programs.want(True)
            await programs.idle()
            programs.want(False)
            await programs.idle()
            assert programs.trouble == ""

    asyncio.run(scenario())
    assert said(tmp_path) == [
        "one an argument start test lb1", "two start test lb1", "two stop test lb1", "one an argument stop test lb1",
    ]  # fmt: skip


def test_one_that_cannot_be_started_stops_all_and_is_told(tmp_path: Path) -> None:
    broken = program(tmp_path, "two", "[ $1 = stop ]")
    cluster = cluster_with(resources=(program(tmp_path, "one"), broken, program(tmp_path, "three")))
    failures: list[None] = []

    async def scenario() -> None:
        async with running(cluster, lambda: failures.append(None)) as programs:
            programs.want(True)
            await programs.idle()
            assert "two start' ended with status 1" in programs.trouble

    asyncio.run(scenario())
    assert len(failures) == 1
    assert [line.split()[:2] for line in said(tmp_path)] == [
        ["one", "start"], ["two", "start"], ["three", "stop"], ["two", "stop"], ["one", "stop"],
    ]  # fmt: skip


def test_who_loses_the_role_while_they_start_stops_them(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = program(tmp_path, "one", f'[ "$1" = stop ] || while [ ! -e {gate} ]; do sleep 0.01; done')
    cluster = cluster_with(resources=(slow, program(tmp_path, "two")))

    async def scenario() -> None:
        async with running(cluster) as programs:
            programs.want(True)
            await until(lambda: (tmp_path / "log").exists())
            programs.want(False)
            gate.touch()
            await programs.idle()

    asyncio.run(scenario())
    assert [line.split()[:2] for line in said(tmp_path)] == [["one", "start"], ["two", "stop"], ["one", "stop"]]


def test_notifications_are_called_in_the_order_of_the_roles(tmp_path: Path) -> None:
    cluster = cluster_with(notify=(program(tmp_path, "one"), program(tmp_path, "two", "exit 3")))

    async def scenario() -> None:
        async with running(cluster) as programs:
            for role in ("standby", "active"):
                programs.tell(role)
            await programs.idle()

    asyncio.run(scenario())
    words = [line.split()[:2] for line in said(tmp_path)]
    assert words == [["one", "standby"], ["two", "standby"], ["one", "active"], ["two", "active"]]


@pytest.mark.parametrize("body", ["exit 1", "exec /nonexistent"])
def test_fencing_that_fails_is_an_error(tmp_path: Path, body: str) -> None:
    cluster = cluster_with(fence=program(tmp_path, "fence", body))
    with pytest.raises(NetworkError, match="lb2 is silent and could not be fenced"):
        asyncio.run(Programs(cluster, "lb1", lambda: None).fence("lb2"))
    assert said(tmp_path) == ["fence lb2 test lb1"]


def test_fencing_that_succeeds_or_is_not_wanted(tmp_path: Path) -> None:
    asyncio.run(Programs(cluster_with(fence=program(tmp_path, "fence")), "lb1", lambda: None).fence("lb2"))
    asyncio.run(Programs(cluster_with(), "lb1", lambda: None).fence("lb2"))
    assert said(tmp_path) == ["fence lb2 test lb1"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    cluster = cluster_with(resources=(str(tmp_path / "none"),))

    async def scenario() -> None:
        async with running(cluster) as programs:
            programs.want(True)
            await programs.idle()
            assert "cannot be run: No such file or directory" in programs.trouble

    asyncio.run(scenario())
