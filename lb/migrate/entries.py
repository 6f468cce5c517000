"""The lines of an ldirectord.cf (SEED_TABLES 2.2). Pure.

What ldirectord refuses is taken as it was probably meant where there is no doubt: curly quotes, and sections of which
nothing is indented, as they come from web pages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_ENTRY = re.compile(r"\s*([A-Za-z0-9]+)\s*=\s*(.*?)\s*")
_QUOTES = str.maketrans("“”„", '"' * 3)
_UNQUOTED = ("real", "real6")
"""Keys whose quotes belong to parts of the value."""


class Entry(NamedTuple):
    """A line `key = value`, without quotes."""

    line: int
    key: str
    value: str

    @property
    def said(self) -> str:
        """As it may be repeated: a password may not."""
        return self.key if self.key in ("passwd", "secret") else f"{self.key}={self.value}" if self.value else self.key


@dataclass
class Section:
    """`virtual=` and what stands below. loose: nothing of it is indented."""

    head: Entry
    entries: list[Entry] = field(default_factory=list)
    loose: bool = True

    def get(self, key: str) -> Entry | None:
        """The last one of that key, which counts."""
        return next((entry for entry in reversed(self.entries) if entry.key == key), None)


@dataclass
class Lines:
    """What stands outside of sections, the sections, and lines without `key = value`."""

    general: list[Entry] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    others: list[Entry] = field(default_factory=list)


def read(text: str) -> Lines:
    """The file's entries."""
    lines, open_ = Lines(), False
    for number, raw in enumerate(text.translate(_QUOTES).splitlines(), start=1):
        indented = raw[:1] in (" ", "\t")
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        inside = open_ and (indented or lines.sections[-1].loose)
        found = _ENTRY.fullmatch(raw.partition("#")[0] if inside else raw)
        if found is None:
            lines.others.append(Entry(number, raw.strip(), ""))
            continue
        entry = Entry(number, found[1], found[2] if found[1] in _UNQUOTED else _unquoted(found[2]))
        if entry.key in ("virtual", "virtual6"):
            lines.sections.append(Section(entry))
            open_ = True
        elif inside:
            lines.sections[-1].entries.append(entry)
            lines.sections[-1].loose &= not indented
        else:
            open_ = False
            lines.general.append(entry)
    return lines


def _unquoted(words: str) -> str:
    return words[1:-1] if len(words) > 1 and words[0] == words[-1] == '"' else words
