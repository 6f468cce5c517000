"""What one look finds."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]


class Verdict(NamedTuple):
    """seen: what there is. mend: one line that says what to do about it; empty where nothing is to be done."""

    level: Level
    seen: str
    mend: str = ""


def ok(seen: str) -> Verdict:
    """As it should be."""
    return Verdict("ok", seen)


def warn(seen: str, mend: str) -> Verdict:
    """It works, or may; somebody should know."""
    return Verdict("warn", seen, mend)


def fail(seen: str, mend: str) -> Verdict:
    """It will not work."""
    return Verdict("fail", seen, mend)
