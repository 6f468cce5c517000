"""The kernel's watchdog: a device that reboots this machine unless it is fed. Edge.

It is fed from the event loop that sends the heartbeats, so a director that hangs, and with it the machine if that is
what hangs, is gone for good within the timeout instead of coming back to life beside the one that took over. The
protocol is the kernel's (Documentation/watchdog/watchdog-api.rst): any write feeds; a device closed without the letter
V before goes on counting. So does one whose process was killed: whoever restarts it has the timeout to do so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import math
import os
import struct
from typing import Final

import structlog

log = structlog.get_logger(__name__)

FOOD: Final = b"\0"
DISARM: Final = b"V"
RETRY_S: Final = 1.0
_SET_TIMEOUT: Final = 0xC004_5706
"""WDIOC_SETTIMEOUT, _IOWR('W', 6, int): seconds; the driver writes back what it took."""
_GRACE_S: Final = 0.01


def timeout_s(deadtime_s: float) -> int:
    """Whole seconds, as the device counts: not before others hold this director dead."""
    return math.ceil(deadtime_s + _GRACE_S)


class Watchdog:
    """Nothing is opened before `run`. trouble: why the device cannot be fed; empty if it can, or none is wanted."""

    def __init__(self) -> None:
        self.trouble = ""
        self._path: str | None = None
        self._timeout_s = 1
        self._device: int | None = None
        self._changed = asyncio.Event()

    def configure(self, path: str | None, deadtime_s: float) -> None:
        """Feed this device from now on, none if there is no path; one that was fed before is disarmed."""
        wanted = (path, timeout_s(deadtime_s))
        if wanted != (self._path, self._timeout_s):
            self.close()
            self._path, self._timeout_s = wanted
            self._changed.set()

    async def run(self) -> None:
        """Feed for ever: four times a timeout."""
        while True:
            self._changed.clear()
            pause_s: float | None = None
            if self._path is not None:
                pause_s = self._timeout_s / 4 if self._feed(self._path) else RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()

    def close(self) -> None:
        """Disarm the device and let go of it. Done at every end that this process still sees."""
        device, self._device, self.trouble = self._device, None, ""
        if device is None:
            return
        with contextlib.suppress(OSError):
            os.write(device, DISARM)
        os.close(device)
        log.info("the watchdog is disarmed", device=self._path)

    def _feed(self, path: str) -> bool:
        try:
            if self._device is None:
                self._device = self._open(path)
            os.write(self._device, FOOD)
        except OSError as error:
            trouble = f"the watchdog {path} cannot be fed: {error.strerror}"
            if error.errno == errno.EBUSY:
                trouble += "; another program has it open (systemd: RuntimeWatchdogSec)"
            if trouble != self.trouble:
                log.error("the watchdog cannot be fed; trying again", device=path, reason=error.strerror)
            self.trouble = trouble
            return False
        self.trouble = ""
        return True

    def _open(self, path: str) -> int:
        device = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        taken = struct.pack("i", self._timeout_s)
        try:
            (seconds,) = struct.unpack("i", fcntl.ioctl(device, _SET_TIMEOUT, taken))
        except OSError as error:
            log.warning("the watchdog keeps its own timeout", device=path, reason=error.strerror)
        else:
            log.info("the watchdog is armed", device=path, timeout_s=seconds)
        return device
