"""The line of every key of a TOML document, for messages. Read with tree-sitter, since tomllib keeps no positions.

Only asked when there is something to report, so that a valid file of ten thousand reals does not pay for it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

Path = tuple[str | int, ...]
"""A place: keys and, in arrays, positions from 0: `("virtual", 0, "real", 1, "address")`."""


class Finding(NamedTuple):
    """Something to say about the file. places: what it is about; the first is where it is reported."""

    places: tuple[Path, ...]
    message: str


_KEY_TYPES = frozenset({"bare_key", "quoted_key", "dotted_key"})


def lines(text: str) -> dict[Path, int]:
    """Line (from 1) of each table, key and array element of `text`, which tomllib accepts.

    A table is where its header or its first key stands; an array of tables where its first element does.
    """
    source = text.replace("\r\n", "\n").encode("utf-8", "replace")
    found: dict[Path, int] = {(): 1}
    last: dict[Path, int] = {}
    """Position of the newest element of each array of tables: what `[virtual.check]` refers to."""
    for statement in Parser(Language(tree_sitter_toml.language())).parse(source).root_node.children:
        if statement.type == "pair":
            _add_pair(found, (), statement)
        elif statement.type in ("table", "table_array_element"):
            base = _open_table(found, last, statement)
            for child in statement.children:
                if child.type == "pair":
                    _add_pair(found, base, child)
    return found


def line_of(found: Mapping[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest table around it; 0 (the whole file) where nothing of it is there."""
    while path and path not in found:
        path = path[:-1]
    return found[path] if path else 0


def _open_table(found: dict[Path, int], last: dict[Path, int], header: Node) -> Path:
    keys = list(_keys(next(child for child in header.children if child.type in _KEY_TYPES)))
    path: Path = ()
    for position, key in enumerate(keys):
        path = (*path, key)
        found.setdefault(path, _line(header))
        if header.type == "table_array_element" and position == len(keys) - 1:
            last[path] = last.get(path, -1) + 1
        if path in last:
            path = (*path, last[path])
            found.setdefault(path, _line(header))
    return path


def _add_pair(found: dict[Path, int], base: Path, pair: Node) -> None:
    key, _equals, value, *_comment = pair.children
    path = base
    for part in _keys(key):
        path = (*path, part)
        found.setdefault(path, _line(pair))
    _add_value(found, path, value)


def _add_value(found: dict[Path, int], path: Path, value: Node) -> None:
    if value.type == "inline_table":
        for child in value.children:
            if child.type == "pair":
                _add_pair(found, path, child)
    elif value.type == "array":
        elements = (child for child in value.children if child.is_named and child.type != "comment")
        for position, element in enumerate(elements):
            found[(*path, position)] = _line(element)
            _add_value(found, (*path, position), element)


def _keys(node: Node) -> Iterator[str]:
    """The parts of a key, unquoted; a dotted key is nested to the left."""
    if node.type == "dotted_key":
        for child in node.children:
            if child.type in _KEY_TYPES:
                yield from _keys(child)
    elif node.text is not None:
        text = node.text.decode()
        yield text if node.type == "bare_key" else next(iter(tomllib.loads(f"{text} = 0")))


def _line(node: Node) -> int:
    return node.start_point.row + 1
