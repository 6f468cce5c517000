"""Several questions to one real, asked at the same time: `all` of them must pass, or `any`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from typing import Any

from lb.probes.base import Failed, NotAskedError, Seen

Answers = Iterable[tuple[str, Coroutine[Any, Any, Seen]]]
"""What each question is called, and its answer to come."""


async def every(answers: Answers) -> Seen:
    """All must pass; the first that does not decides."""
    warnings = []
    async with aclosing(_as_they_come(answers)) as coming:
        async for name, answer in coming:
            if isinstance(answer, NotAskedError):
                raise answer
            if isinstance(answer, Failed):
                raise Failed(f"{name}: {answer}")
            warnings += _warning(name, answer)
    return Seen("all passed", "; ".join(warnings))


async def either(answers: Answers) -> Seen:
    """One must pass; the first that does decides. What could not be asked might have passed."""
    reasons, unasked = [], None
    async with aclosing(_as_they_come(answers)) as coming:
        async for name, answer in coming:
            if isinstance(answer, Seen):
                return Seen(f"{name}: {answer.reason}", "".join(_warning(name, answer)))
            if isinstance(answer, NotAskedError):
                unasked = answer
            reasons.append(f"{name}: {answer}")
    raise unasked or Failed("; ".join(reasons))


def _warning(name: str, answer: Seen) -> list[str]:
    return [f"{name}: {answer.warning}"] if answer.warning else []


async def _as_they_come(answers: Answers) -> AsyncGenerator[tuple[str, Seen | Failed | NotAskedError], None]:
    """Each name with what came of it, in the order of the clock. Whoever stops listening stops the others."""
    tasks = {asyncio.ensure_future(answer): name for name, answer in answers}
    waiting = set(tasks)
    try:
        while waiting:
            ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                try:
                    answer: Seen | Failed | NotAskedError = task.result()
                except (Failed, NotAskedError) as failure:
                    answer = failure
                yield tasks[task], answer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
