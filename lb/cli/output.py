"""How commands speak: JSON for scripts, rich tables for people, colours only on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, default=str))


class Uncut:
    """A table as wide as its content: a pipe or a narrow terminal must not turn names and addresses into '…'."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._table, options.update(max_width=_WIDEST))


_WIDEST = 10_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Left-aligned columns under bold heads; numbers to the right. No lines, so that it pastes well into mail."""
    if title:
        out.print(title, style="italic", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [tuple(row) for row in rows]
    for position, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[position], (int, float)) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out.print(Uncut(table))


def state(word: str) -> str:
    """A state's word in the colour people expect of it."""
    colours = {
        "up": "green",
        "active": "green",
        "in-sync": "green",
        "ok": "green",
        "down": "red",
        "dead": "red",
        "failed": "red",
        "drained": "yellow",
        "unknown": "yellow",
        "init": "yellow",
        "standby": "cyan",
        "syncing": "yellow",
    }
    return f"[{colours[word]}]{word}[/]" if word in colours else word
