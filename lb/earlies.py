"""Fragments that came before the first one of their datagram, while they wait for it. Pure; time is an argument."""

from __future__ import annotations

from collections import OrderedDict, deque

PATIENCE_S = 3.0
"""As long as the packet program keeps a datagram (`lb.abi.FRAGMENT_TIMEOUT_S`)."""
FRAMES_MAX = 2_048
"""3 MB of frames of the usual size."""


class Earlies:
    """Frames by datagram. When there is no more room, one of the datagram that waits longest goes.

    given_up: how many frames nobody came for.
    """

    def __init__(self, most: int = FRAMES_MAX, patience_s: float = PATIENCE_S) -> None:
        self.given_up = 0
        self._most = most
        self._patience_s = patience_s
        self._waiting: OrderedDict[bytes, tuple[float, deque[bytes]]] = OrderedDict()
        self._frames = 0

    def hold(self, datagram: bytes, frame: bytes, now_s: float) -> None:
        """Until somebody takes it. A datagram's patience begins with its earliest frame."""
        _, frames = self._waiting.setdefault(datagram, (now_s + self._patience_s, deque()))
        frames.append(frame)
        self._frames += 1
        if self._frames > self._most:
            self._make_room()

    def take(self, datagram: bytes) -> tuple[bytes, ...]:
        """Its frames, in the order in which they came."""
        _, frames = self._waiting.pop(datagram, (0.0, ()))
        self._frames -= len(frames)
        return tuple(frames)

    def expire(self, now_s: float) -> None:
        """Give up those that have waited long enough."""
        while (until_s := self.next_s) is not None and until_s <= now_s:
            self._give_up_oldest()

    @property
    def next_s(self) -> float | None:
        """When the patience of the oldest ends; None while nobody waits."""
        return next((until_s for until_s, _ in self._waiting.values()), None)

    def _make_room(self) -> None:
        datagram, (_, frames) = next(iter(self._waiting.items()))
        frames.popleft()
        if not frames:
            del self._waiting[datagram]
        self._frames -= 1
        self.given_up += 1

    def _give_up_oldest(self) -> None:
        _, (_, frames) = self._waiting.popitem(last=False)
        self._frames -= len(frames)
        self.given_up += len(frames)
