"""Who is told what: events through filters to channels, and again while a real stays down.

The settings are `[alerts]`', or a virtual's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType

from lb.alerts import senders
from lb.alerts.channel import Channel
from lb.alerts.digest import Digest, Event
from lb.model import Alerts as Settings

Subject = tuple[str, str]
"""Virtual and real."""


class Alerts:
    """All ways of telling, from the first `configure` until `close`. head: names of the cluster and of this node."""

    def __init__(self, head: tuple[str, str], role: Callable[[], str]) -> None:
        self._head, self._role = head, role
        self._general = Settings()
        self._own: Mapping[str, Settings] = {}
        self._circles: dict[Settings, _Circle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def failures(self) -> int:
        """How many messages could not be sent."""
        return sum(circle.failures for circle in self._circles.values())

    def configure(self, general: Settings, own: Mapping[str, Settings] = MappingProxyType({})) -> None:
        """Tell so from now on. own: about some virtuals, by name. What waits for its turn where settings are not
        wanted any more is dropped."""
        self._general, self._own = general, own
        wanted = {general, *own.values()}
        for settings in self._circles.keys() - wanted:
            self._close(self._circles.pop(settings))
        for settings in wanted - self._circles.keys():
            self._circles[settings] = _Circle(settings, self._head, self._role)

    def tell(self, event: Event) -> None:
        """What happened, if it is to be told; and again every `repeat` while a real stays down. Never waits."""
        self._circles[self._settings_of(event.virtual)].tell(event)

    def keep(self, subjects: Collection[Subject]) -> None:
        """Others are not there any more: nothing about them is repeated."""
        for settings, circle in self._circles.items():
            circle.keep({subject for subject in subjects if self._settings_of(subject[0]) == settings})

    async def close(self) -> None:
        """Tell nothing more."""
        for circle in self._circles.values():
            self._close(circle)
        self._circles = {}
        await asyncio.gather(*self._closing)

    def _settings_of(self, virtual: str) -> Settings:
        return self._own.get(virtual, self._general)

    def _close(self, circle: _Circle) -> None:
        task = asyncio.create_task(circle.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Circle:
    """Those who are told by the same settings, from its making until `close`."""

    def __init__(self, settings: Settings, head: tuple[str, str], role: Callable[[], str]) -> None:
        self._settings = settings
        self._repeats: dict[Subject, asyncio.TimerHandle] = {}
        ways: list[tuple[str, Callable[[Settings, Digest], Awaitable[None]], object]] = [
            ("email", senders.mail, settings.email),
            ("command", senders.command, settings.command),
            ("webhook", senders.webhook, settings.webhook),
        ]
        self._channels = [
            Channel(name, partial(send, settings), settings.every, head, role) for name, send, wanted in ways if wanted
        ]

    @property
    def failures(self) -> int:
        return sum(channel.failures for channel in self._channels)

    def tell(self, event: Event) -> None:
        subject = (event.virtual, event.real)
        if timer := self._repeats.pop(subject, None):
            timer.cancel()
        settings = self._settings
        if not self._channels or event.phase not in settings.phases:
            return
        if event.state in settings.states:
            self._send(event)
            if event.state == "down" and settings.repeat:
                self._repeat(subject, event)

    def keep(self, subjects: Collection[Subject]) -> None:
        for subject in [subject for subject in self._repeats if subject not in subjects]:
            self._repeats.pop(subject).cancel()

    async def close(self) -> None:
        for timer in self._repeats.values():
            timer.cancel()
        self._repeats.clear()
        channels, self._channels = self._channels, []
        await asyncio.gather(*(channel.close() for channel in channels))

    def _repeat(self, subject: Subject, event: Event) -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            lasted_s = event.lasted_s if event.again else 0.0
            self._repeat(subject, said := event._replace(at=time.time(), lasted_s=lasted_s + repeat_s, again=True))
            self._send(said)

        repeat_s = self._settings.repeat
        self._repeats[subject] = loop.call_later(repeat_s, again)

    def _send(self, event: Event) -> None:
        for channel in self._channels:
            channel.tell(event)
