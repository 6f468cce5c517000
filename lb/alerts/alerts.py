"""Who is told what: events through the filters of `[alerts]` to its channels, and again while a real stays down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial

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
        self._settings = Settings()
        self._channels: list[Channel] = []
        self._repeats: dict[Subject, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def failures(self) -> int:
        """How many messages could not be sent."""
        return sum(channel.failures for channel in self._channels)

    def configure(self, settings: Settings) -> None:
        """Tell so from now on. With other settings than before, what still waits for its turn is dropped."""
        if settings == self._settings:
            return
        self._drop()
        self._settings = settings
        ways: list[tuple[str, Callable[[Settings, Digest], Awaitable[None]], object]] = [
            ("email", senders.mail, settings.email),
            ("command", senders.command, settings.command),
            ("webhook", senders.webhook, settings.webhook),
        ]
        self._channels = [
            Channel(name, partial(send, settings), settings.every, self._head, self._role)
            for name, send, wanted in ways
            if wanted
        ]

    def tell(self, event: Event) -> None:
        """What happened, if it is to be told; and again every `repeat` while a real stays down. Never waits."""
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
        """Others are not there any more: nothing about them is repeated."""
        for subject in [subject for subject in self._repeats if subject not in subjects]:
            self._repeats.pop(subject).cancel()

    async def close(self) -> None:
        """Tell nothing more."""
        self._drop()
        await asyncio.gather(*self._closing)

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

    def _drop(self) -> None:
        for timer in self._repeats.values():
            timer.cancel()
        self._repeats.clear()
        for channel in self._channels:
            task = asyncio.create_task(channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._channels = []
