"""Texts that match regular expressions, always the same for the same expression."""

from __future__ import annotations

import random

import regex
import rstr

_ATTEMPTS = 20


def example(pattern: str) -> str:
    """A text in which `pattern` is found: itself where it is plain, else made up; itself too if nothing fits.

    rstr knows the syntax of `re` and no look-around, so that what it makes is tried.
    """
    if regex.search(pattern, pattern):
        return pattern
    for seed in range(_ATTEMPTS):
        try:
            text: str = rstr.Rstr(random.Random(seed)).xeger(pattern)
        except Exception:
            return pattern
        if regex.search(pattern, text):
            return text
    return pattern
