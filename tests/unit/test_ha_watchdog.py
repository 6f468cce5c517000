"""The watchdog's protocol, on a pipe in the device's place: no test may reboot the machine it runs on."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ha.watchdog import DISARM, FOOD, Watchdog, timeout_s
from tests.servers import until


@pytest.mark.parametrize(("deadtime_s", "expected_s"), [(0.04, 1), (0.5, 1), (0.99, 1), (1.0, 2), (10.0, 11)])
def test_the_timeout_is_deadtime_rounded_up(deadtime_s: float, expected_s: int) -> None:
    assert timeout_s(deadtime_s) == expected_s


class Device:
    """A pipe that remembers what was written to it, by name."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.written = b""

    def read(self) -> bytes:
        """All that came so far."""
        with contextlib.suppress(BlockingIOError):
            self.written += os.read(self._reading, 1 << 16)
        return self.written

    def close(self) -> None:
        os.close(self._reading)


@contextlib.asynccontextmanager
async def running(*paths: Path) -> AsyncIterator[tuple[Watchdog, list[Device]]]:
    """A watchdog that runs, and devices that nobody feeds yet."""
    watchdog, devices = Watchdog(), [Device(path) for path in paths]
    task = asyncio.create_task(watchdog.run())
    try:
        yield watchdog, devices
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        watchdog.close()
        for device in devices:
            device.close()


def test_fed_again_and_again_and_disarmed_at_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "watchdog") as (watchdog, (device,)):
            watchdog.configure(device.path, deadtime_s=0.5)
            await until(lambda: len(device.read()) >= 3)
            assert set(device.written) == set(FOOD)
            watchdog.close()
            assert device.read().endswith(FOOD + DISARM)

    asyncio.run(scenario())


def test_another_device_takes_its_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "first", tmp_path / "second") as (watchdog, (first, second)):
            watchdog.configure(first.path, deadtime_s=0.5)
            await until(lambda: bool(first.read()))
            watchdog.configure(first.path, deadtime_s=0.5)
            assert DISARM not in first.read()
            watchdog.configure(second.path, deadtime_s=0.5)
            await until(lambda: bool(second.read()))
            assert first.read().endswith(DISARM)
            watchdog.configure(None, deadtime_s=0.5)
            assert second.read().endswith(DISARM)

    asyncio.run(scenario())


def test_a_device_that_is_not_there_yet_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ha.watchdog.RETRY_S", 0.02)

    async def scenario() -> None:
        async with running() as (watchdog, _):
            watchdog.configure(str(tmp_path / "watchdog"), deadtime_s=0.5)
            await until(lambda: bool(watchdog.trouble))
            assert watchdog.trouble == f"the watchdog {tmp_path / 'watchdog'} cannot be fed: No such file or directory"
            device = Device(tmp_path / "watchdog")
            try:
                await until(lambda: bool(device.read()) and not watchdog.trouble)
            finally:
                watchdog.close()
                device.close()

    asyncio.run(scenario())
