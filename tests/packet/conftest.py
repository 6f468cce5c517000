"""Fixtures: a namespace for each module, one loaded program for those tests that only change its maps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.packet.world import NODE, World, network_namespace, real


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[None]:
    """The whole module runs in a network namespace of its own."""
    with network_namespace():
        yield


@pytest.fixture(scope="module")
def loaded() -> Iterator[World]:
    """A program with the TCP and the UDP service of `World.apply_reals`, under rr."""
    world = World.open()
    try:
        world.apply_reals(real(1), real(2))
        yield world
    finally:
        world.close()


@pytest.fixture
def world(loaded: World) -> World:
    """The same, as if just loaded: reals 1 and 2, no connections, no lease."""
    loaded.apply_reals(real(1), real(2))
    loaded.forget()
    return loaded


@pytest.fixture(scope="module")
def lasting() -> Iterator[World]:
    """A data path of the module's own, with nothing applied."""
    world = World.open(f"{NODE}.lasting")
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def again(lasting: World) -> World:
    """The same, as if just opened: a program like the one before is taken again, with all turns anew."""
    if lasting.data._program is not None:
        lasting.forget()
        lasting.data._program._maps["schedules"].mapped()["cursor"][:] = 0
    return lasting


@pytest.fixture
def own() -> Iterator[World]:
    """A data path of the test's own, in a namespace of its own, with nothing applied."""
    with network_namespace():
        world = World.open(f"{NODE}.own")
        try:
            yield world
        finally:
            world.close()
