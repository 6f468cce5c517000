"""TOML text into values, and its syntax errors in our own words, with the line and what was probably meant."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from lb.errors import Problem
from lb.wording import BOOLEANS, SECRETS, show

_PLACE = re.compile(r"(?P<what>.*) \((?:at line (?P<line>\d+), column \d+|at end of document)\)", re.DOTALL)
_KEY_VALUE = re.compile(r"\s*(?P<key>[A-Za-z0-9_.-]+)\s*(?P<equals>=?)\s*(?P<value>.*?)\s*(?:#.*)?", re.DOTALL)
_TYPOGRAPHIC = dict.fromkeys("“”„«»", '"') | dict.fromkeys("‘’‚", "'") | dict.fromkeys("–—−", "-")  # noqa: RUF001
"""What word processors and web pages make of quotes and hyphens."""


class SyntaxProblem(Exception):  # noqa: N818
    """The text is not TOML."""

    def __init__(self, line: int, message: str) -> None:
        self.problem = Problem(line, "", message)
        super().__init__(message)


def read(text: str) -> dict[str, Any]:
    """The document's values. Raises SyntaxProblem for the first thing that is not TOML."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise SyntaxProblem(0, "arrays or tables are nested too deeply; no key needs more than two levels") from None
    except ValueError as error:
        place = _PLACE.fullmatch(str(error))
    if place is None:
        raise SyntaxProblem(0, "has a number of thousands of digits; no key accepts one")
    rows = text.rstrip("\n").split("\n")
    line = int(place["line"]) if place["line"] else len(rows)
    raise SyntaxProblem(line, _explain(rows[line - 1], place["what"]))


def _explain(row: str, what: str) -> str:
    """What is wrong with `row`, of which tomllib says `what`."""
    if control := re.search(r"[\x00-\x08\x0b-\x1f\x7f]", row):
        return f"control character {show(control[0])}; remove it"
    if strange := next((character for character in row if character in _TYPOGRAPHIC), None):
        return f"{strange} is a typographic character; write {_TYPOGRAPHIC[strange]}"
    if what.startswith(("Cannot", "Duplicate")):
        return "stands in the file twice; write each key and each [table] once (only [[...]] may repeat)"
    if what.startswith(("Unterminated", "Illegal", 'Expected "\'"')):
        return "a text in quotes is not closed; close it with the quote that it begins with"
    if what.startswith("Expected ']"):
        return "a heading in brackets is not closed; write [table] or [[table]]"
    pair = _KEY_VALUE.fullmatch(row)
    if pair is not None and (pair["equals"] or what.startswith("Expected '='")):
        return _explain_pair(pair["key"], pair["equals"], pair["value"])
    return f"is not TOML: {what[0].lower()}{what[1:]}"


def _explain_pair(key: str, equals: str, value: str) -> str:
    if not value:
        return f"{key} has no value; write {key} = and the value"
    if value[0] in "\"'[{":
        return f"the value of {key} is not TOML; compare quotes, commas and brackets"
    if key.split(".")[-1] in SECRETS:
        return f"the value of {key} (it is not shown here) is not TOML; write it in quotes"
    fact = f"{show(value)} is not a value" if equals else "there is no '=' between key and value"
    return f"{fact}; write {key} = {BOOLEANS.get(value.lower(), quoted(value))}"


def quoted(text: str) -> str:
    """`text` as a TOML string."""
    return json.dumps(text, ensure_ascii=False)
