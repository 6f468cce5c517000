"""How values and choices are put into messages: as the file writes them, short, and without control characters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import date, time
from difflib import get_close_matches

from lb.catalog import FORMERLY, Word, available

LONGEST = 60
"""Characters of a value that a message quotes before it is cut."""

SECRETS = ("passwd", "secret")
"""Keys whose values no message repeats."""

BOOLEANS = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
"""What people write for TOML's two words."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def show(value: object) -> str:
    """A value as a message quotes it: `'rr'`, `80`, `true`, `a table`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "an array"
    if isinstance(value, (date, time)):
        return f"the date or time {value.isoformat()}"
    if isinstance(value, int) and abs(value) >= 10**LONGEST:
        return "a number of more than 60 digits"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}…{text[-1]}"


def show_path(path: Iterable[str | int]) -> str:
    """A place in the file in the file's words: `virtual[0].real[1].address`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else json.dumps(part))
    return text


def closest(value: str, words: Iterable[str], likeness: float = 0.6) -> str | None:
    """The word that `value` was probably meant to be. likeness: 0 to 1, as difflib's ratio."""
    return next(iter(get_close_matches(value.lower(), list(words), n=1, cutoff=likeness)), None)


def did_you_mean(value: str, words: Iterable[str]) -> str:
    """`; did you mean 'rr'?`, or nothing when no word is close."""
    close = closest(value, words)
    return f"; did you mean {show(close)}?" if close else ""


def refuse_word(value: str, kind: str, words: Mapping[str, Word]) -> str | None:
    """What is wrong with `value` as a choice out of `words`, or None. kind: what the words are, with its article."""
    can = available(dict(words))
    if value in can:
        return None
    if value in FORMERLY and value not in words:
        return f"{show(value)} is here {FORMERLY[value]}"
    if value in words:
        return f"{show(value)} is not available yet (available: {', '.join(can)})"
    return f"{show(value)} is not {kind} ({', '.join(can)}){did_you_mean(value, can)}"
