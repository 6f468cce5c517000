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

from lb.model import Check
from lb.probes.base import Failed
from lb.weights import WEIGHT_MAX
from lb.wording import show

INLINE_S = 0.005
"""Longest stop of the event loop; heartbeats run on it too. Usual patterns and pages need microseconds."""


@lru_cache(maxsize=4096)
def _compiled(pattern: str, lines: bool) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.MULTILINE if lines else 0)


def decode(body: bytes) -> str:
    """Text of unknown encoding: UTF-8 where it is that, perhaps cut off within a character; else Latin-1.

    What the real says about its encoding is not used: some of Python's codecs need quadratic time.
    """
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return body.decode("latin-1")


async def found(pattern: str, text: str, limit_s: float, *, lines: bool = False) -> bool:
    """Is the pattern anywhere in the text? Raises Failed where that cannot be told within limit_s seconds.

    lines: `^` and `$` are the ends of a line, not of the text.
    """
    return await _search(pattern, text, limit_s, lines) is not None


async def _search(pattern: str, text: str, limit_s: float, lines: bool) -> regex.Match[str] | None:
    compiled = _compiled(pattern, lines)
    try:
        return compiled.search(text, timeout=INLINE_S)
    except TimeoutError:
        pass
    try:
        return await asyncio.to_thread(compiled.search, text, concurrent=True, timeout=limit_s)
    except TimeoutError:
        raise Failed(f"searching for {pattern!r} took more than {limit_s:g} s") from None


async def judge_text(check: Check, body: bytes | str, what: str, *, lines: bool = False) -> int | None:
    """The weight in an answer's text, if the check wants one. what: how the answer is called.

    Raises Failed for a text that is not as `receive` and `refuse` say, or has no weight where it should have one.
    """
    if check.receive is None and check.refuse is None:
        return None
    text, limit_s, weight = _text(body, lines), check.timeout / 2, None
    if check.receive is not None:
        match = await _search(check.receive, text, limit_s, lines)
        if match is None:
            raise Failed(f"{what} does not match {check.receive!r}")
        weight = _weight(match) if check.dynamic_weight else None
    if check.refuse is not None and await found(check.refuse, text, limit_s, lines=lines):
        raise Failed(f"{what} matches {check.refuse!r}, which it must not")
    return weight


async def fits(check: Check, body: bytes, *, lines: bool = False) -> bool:
    """Has what must be received come? Raises Failed where that cannot be told in time."""
    return check.receive is not None and await found(check.receive, _text(body, lines), check.timeout / 2, lines=lines)


def _text(body: bytes | str, lines: bool) -> str:
    text = body if isinstance(body, str) else decode(body)
    return text.replace("\r\n", "\n") if lines else text


def _weight(match: regex.Match[str]) -> int:
    """The weight that a real answers with: what the pattern's first group found. Raises Failed if it is none."""
    word = match[1] or ""
    if not (word.isascii() and word.isdigit() and len(word) <= 5 and int(word) <= WEIGHT_MAX):
        raise Failed(f"{show(word)} in the answer is not a weight; accepted: 0 to {WEIGHT_MAX}")
    return int(word)
