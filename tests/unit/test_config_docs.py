"""docs/configuration.md against the model: every key, every default, every range of numbers, every example."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple, get_type_hints

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from lb import catalog, config
from lb.model import Question, format_duration
from lb.shapes import FORMER_NAMES, SECTIONS, keys_of

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


class Row(NamedTuple):
    """A row of a section's table."""

    key: str
    type: str
    default: str
    accepted: str
    meaning: str
    formerly: str


def rows(heading: str) -> list[Row]:
    (body,) = re.findall(rf"^## {re.escape(heading)}$(.*?)(?=^#|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line for line in body.splitlines() if line.startswith("|")][2:]
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


WITHOUT_TABLE = ("the top level", "[[virtual.check.part]]")
TABLES = [(heading, section) for heading, section in SECTIONS.values() if heading not in WITHOUT_TABLE]
HEADINGS = [heading for heading, _ in TABLES]


def field_of(section: type[BaseModel], key: str) -> FieldInfo:
    return next(f for name, f in section.model_fields.items() if (f.alias or name) == key)


def said(field: FieldInfo, kind: str) -> str:
    """A default as the table writes it."""
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return f"type {getattr(field.default, 'type')}"  # noqa: B009
    if field.default is None:
        return "none"
    value = format_duration(field.default) if kind == "duration" else field.default
    return f"`{json.dumps(value, default=str)}`"


@pytest.mark.parametrize(("heading", "section"), TABLES, ids=HEADINGS)
def test_every_key_is_there_in_the_models_order(heading: str, section: type[BaseModel]) -> None:
    assert [row.key.strip("`") for row in rows(heading)] == keys_of(section)


def test_a_part_of_a_check_has_the_first_keys_of_its_table() -> None:
    keys = [row.key.strip("`") for row in rows("[virtual.check]")]
    part = keys_of(Question)
    assert (part[0], part[-1]) == ("type", "expiry")
    assert keys[: len(part)] == part


@pytest.mark.parametrize(("heading", "section"), TABLES, ids=HEADINGS)
def test_every_default_is_the_models(heading: str, section: type[BaseModel]) -> None:
    table = rows(heading)
    assert [(r.key, r.default) for r in table] == [
        (r.key, said(field_of(section, r.key.strip("`")), r.type)) for r in table
    ]


NUMBERS = [
    (section, row.key.strip("`"), int(bounds[1]), int(bounds[2]))
    for heading, section in TABLES
    for row in rows(heading)
    if (bounds := re.fullmatch(r"(\d+) to (\d+)", row.accepted))
]


@pytest.mark.parametrize(("section", "key", "low", "high"), NUMBERS)
def test_every_range_is_accepted_to_its_ends_and_not_beyond(
    section: type[BaseModel], key: str, low: int, high: int
) -> None:
    accepts = TypeAdapter[int](get_type_hints(section, include_extras=True)[key]).validate_python
    assert (accepts(low), accepts(high)) == (low, high)
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValidationError, match="out of range"):
            accepts(beyond)


def test_every_range_of_numbers_was_found() -> None:
    assert len(NUMBERS) == 13


@pytest.mark.parametrize(
    ("heading", "key", "words"),
    [
        ("[[virtual]]", "scheduler", catalog.SCHEDULERS),
        ("[[virtual]]", "flags", catalog.FLAGS),
        ("[[virtual]]", "forward", catalog.FORWARDS),
        ("[[virtual]]", "protocol", catalog.PROTOCOLS),
        ("[virtual.check]", "type", catalog.CHECKS),
        ("[virtual.check]", "service", catalog.SERVICES),
    ],
)
def test_every_word_of_the_catalogue(heading: str, key: str, words: dict[str, catalog.Word]) -> None:
    (row,) = (row for row in rows(heading) if row.key == f"`{key}`")
    assert re.findall(r"`([\w-]+)`", row.accepted) == list(catalog.available(words))
    for word in words:
        assert f"`{word}`" in TEXT


def test_the_example_is_valid() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(config.parse(example, "docs").virtuals[0].reals) == 2


def test_every_former_name_that_the_program_knows_is_beside_its_key() -> None:
    for former, place in FORMER_NAMES.items():
        if match := re.fullmatch(r"(\w+) in (\[.*\])", place):
            (row,) = (row for row in rows(match[2]) if row.key == f"`{match[1]}`")
            assert f"`{former}`".replace("-", "_") in row.formerly or former == "mcast"
