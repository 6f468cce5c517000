"""A configuration in the making: what a file of another program comes to, and what of it does not. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+")
_LONGEST_NAME = 60
"""Three less than there may be, for a number."""

Value = bool | int | str | Sequence[str] | Sequence[int]
Table = dict[str, Value]


class Note(NamedTuple):
    """Something that was not translated, or not as it stands there. line: of that file, 0: all of it."""

    line: int
    what: str
    why: str

    def __str__(self) -> str:
        return ": ".join([str(self.line)] * bool(self.line) + [self.what, self.why])


@dataclass
class Virtual:
    """`[[virtual]]` with its tables, keys and values as the file has them."""

    own: Table = field(default_factory=dict)
    check: Table = field(default_factory=dict)
    parts: Sequence[Table] = ()
    alerts: Table = field(default_factory=dict)
    reals: list[Table] = field(default_factory=list)


@dataclass
class Draft:
    """Tables of a file, and notes in the order of the other program's lines."""

    cluster: Table = field(default_factory=dict)
    connections: Table = field(default_factory=dict)
    alerts: Table = field(default_factory=dict)
    virtuals: list[Virtual] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def note(self, line: int, what: str, why: str) -> None:
        """Tell the file's author, once."""
        if (note := Note(line, what, why)) not in self.notes:
            self.notes.append(note)

    def recipients(self, line: int, names: Sequence[str]) -> Sequence[str]:
        """Who can get alerts. Local users are told of: a mail server may be elsewhere."""
        for name in names:
            if "@" not in name:
                self.note(line, name, "is no mail address with a host; left out of [alerts]")
        return [name for name in names if "@" in name]

    def name(self, wanted: str) -> str:
        """The same, as far as a virtual can be called so, and with a number where one is already."""
        wanted = _NOT_IN_NAMES.sub("-", wanted)[:_LONGEST_NAME].strip("-.") or "virtual"
        taken = {virtual.own.get("name") for virtual in self.virtuals}
        names = (wanted, *(f"{wanted}-{number}" for number in range(2, len(taken) + 3)))
        return next(name for name in names if name not in taken)


def text(draft: Draft, nodes: Mapping[str, str]) -> str:
    """The file. nodes: the directors' names and addresses."""
    return "\n\n".join("\n".join(lines) for lines in _tables(draft, nodes)) + "\n"


def _tables(draft: Draft, nodes: Mapping[str, str]) -> Iterator[Sequence[str]]:
    yield _table("[cluster]", draft.cluster)
    for name, address in nodes.items():
        yield _table("[[node]]", {"name": name, "address": address})
    if len(nodes) > 1:
        yield _table("[ha]", {"authkeys": "authkeys"})
    for heading, table in (("[connections]", draft.connections), ("[alerts]", draft.alerts)):
        if table:
            yield _table(heading, table)
    for virtual in draft.virtuals:
        yield _table("[[virtual]]", virtual.own)
        if virtual.check:
            yield _table("[virtual.check]", virtual.check)
        for part in virtual.parts:
            yield _table("[[virtual.check.part]]", part)
        if virtual.alerts:
            yield _table("[virtual.alerts]", virtual.alerts)
        for real in virtual.reals:
            yield _table("[[virtual.real]]", real)


def _table(heading: str, table: Table) -> list[str]:
    return [heading, *(f"{key} = {_value(value)}" for key, value in table.items())]


def _value(value: Value) -> str:
    """As TOML, whose basic strings are JSON's but for one character."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    return f"[{', '.join(map(_value, value))}]"


def _text(value: str) -> str:
    """Regular expressions are read more easily in single quotes, in which nothing is escaped."""
    if "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
