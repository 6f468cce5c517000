"""Searching a pattern in what a real sent, without letting either of them stop the director.

A regular expression can need exponential time, and the one who writes the text is not the one who wrote the pattern.
The `regex` module can be given a time limit, which `re` cannot. What does not end within a moment goes on in a thread,
where it leaves the interpreter to others.
"""

from __future__ import annotations

import asyncio
import codecs
from functools import lru_cache

import regex

from lb.probes.base import Failed
from lb.weights import WEIGHT_MAX

INLINE_S = 0.005
"""Longest stop of the event loop; heartbeats run on it too. Usual patterns and pages need microseconds."""


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern)


def decode(body: bytes) -> str:
    """Text of unknown encoding: UTF-8 where it is that, perhaps cut off within a character; else Latin-1.

    What the real says about its encoding is not used: some of Python's codecs need quadratic time.
    """
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return body.decode("latin-1")


async def found(pattern: str, text: str, limit_s: float) -> bool:
    """Is the pattern anywhere in the text? Raises Failed where that cannot be told within limit_s seconds."""
    return await _search(pattern, text, limit_s) is not None


async def weight_in(pattern: str, text: str, limit_s: float) -> int:
    """The weight that a real answers with: what the pattern's first group finds. Raises Failed if it is none."""
    match = await _search(pattern, text, limit_s)
    word = (match and match[1]) or ""
    if not (word.isascii() and word.isdigit() and len(word) <= 5 and int(word) <= WEIGHT_MAX):
        raise Failed(f"{word[:20]!r} in the answer is not a weight; accepted: 0 to {WEIGHT_MAX}")
    return int(word)


async def _search(pattern: str, text: str, limit_s: float) -> regex.Match[str] | None:
    compiled = _compiled(pattern)
    try:
        return compiled.search(text, timeout=INLINE_S)
    except TimeoutError:
        pass
    try:
        return await asyncio.to_thread(compiled.search, text, concurrent=True, timeout=limit_s)
    except TimeoutError:
        raise Failed(f"searching for {pattern!r} took more than {limit_s:g} s") from None
