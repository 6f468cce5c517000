"""keepalived.conf as a tree: a directive has words, and may have others in braces. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(r'"([^"]*)"|([{}])|([^\s{}"]+)|([#!].*)')


@dataclass
class Block:
    """line: where it begins."""

    line: int
    words: tuple[str, ...]
    inside: list[Block] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its first word."""
        return self.words[0]

    @property
    def value(self) -> str:
        """What follows."""
        return " ".join(self.words[1:])

    @property
    def said(self) -> str:
        """As it may be repeated."""
        return self.key if self.key.endswith(("auth_pass", "password")) else " ".join(self.words)

    def get(self, *keys: str) -> Block | None:
        """The last directive in it by one of these names."""
        return next((block for block in reversed(self.inside) if block.key in keys), None)


def parse(text: str) -> list[Block]:
    """The directives of a file. Braces that nobody opened are left out, those that nobody closed end with it."""
    root = Block(0, ("",))
    open_ = [root]
    for number, line in enumerate(text.splitlines(), start=1):
        words: list[str] = []
        for word in _tokens(line):
            if word not in ("{", "}"):
                words.append(word)
                continue
            block = _add(open_[-1], number, words)
            if word == "{":
                open_.append(block or _last(open_[-1], number))
            elif len(open_) > 1:
                open_.pop()
            words = []
        _add(open_[-1], number, words)
    return root.inside


def _add(parent: Block, line: int, words: list[str]) -> Block | None:
    if not words:
        return None
    parent.inside.append(Block(line, tuple(words)))
    return parent.inside[-1]


def _last(parent: Block, line: int) -> Block:
    """Whose brace stands on a line of its own."""
    if not parent.inside:
        parent.inside.append(Block(line, ("{",)))
    return parent.inside[-1]


def _tokens(line: str) -> Iterator[str]:
    for found in _TOKEN.finditer(line):
        quoted, brace, word, comment = found.groups()
        if comment is not None or (word or "").startswith(("#", "!")):
            return
        yield quoted if quoted is not None else brace or word
