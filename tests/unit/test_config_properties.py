"""`lb.config` on arbitrary input: an answer or a ConfigError, never another exception; and what must round-trip."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lb import config, positions, syntax
from lb.errors import ConfigError
from lb.fields import MAX_DURATION_S, format_duration, parse_duration
from lb.model import Cluster
from tests.unit.test_config import VALID


def parse_or_refuse(text: str) -> None:
    try:
        config.parse(text, "c")
    except ConfigError as error:
        refusal = error
    else:
        return
    assert refusal.problems
    for problem in refusal.problems:
        assert 0 <= problem.line <= text.count("\n") + 1
        assert problem.message
        assert "\n" not in problem.path + problem.message


@given(st.text())
def test_any_text(text: str) -> None:
    parse_or_refuse(text)


@given(st.text(alphabet="[]{}=.\"'#,\n ab1-_\\"))
def test_any_text_of_tomls_own_characters(text: str) -> None:
    parse_or_refuse(text)


@given(st.integers(0, len(VALID)), st.integers(0, 40), st.text(max_size=20))
def test_a_valid_file_with_a_piece_replaced(start: int, length: int, piece: str) -> None:
    parse_or_refuse(VALID[:start] + piece + VALID[start + length :])


LINES = VALID.splitlines(keepends=True)


@given(st.permutations(LINES))
@settings(max_examples=50)
def test_a_valid_file_in_another_order(lines: list[str]) -> None:
    parse_or_refuse("".join(lines))


@given(st.lists(st.sampled_from(LINES), max_size=40))
def test_some_lines_of_a_valid_file(lines: list[str]) -> None:
    parse_or_refuse("".join(lines))


VALUES = st.recursive(
    st.one_of(
        st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates(), st.times(),
        st.sampled_from(["rr", "gate", "1.2.3.4", "web1", "/", "on", "connect"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["name", "port", "a b"]), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip
KEYS = [
    *(
        "cluster",
        "cluster.interface",
        "node",
        "node.name",
        "ha",
        "ha.ping",
        "ha.deadtime",
        "connections.max",
        "virtual",
    ),
    *("virtual.port", "virtual.fallback", "virtual.check", "virtual.check.status", "virtual.check.receive"),
    *("virtual.real", "virtual.real.address", "virtual.real.weight", "virtual.real.port", "virtual.x", "x"),
]


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=4))
def test_values_of_any_kind_under_known_keys(values: dict[str, Any]) -> None:
    document = syntax.read(VALID)
    for key, value in values.items():
        *parents, last = key.split(".")
        table: Any = document
        for parent in parents:
            table = table.get(parent) if isinstance(table, dict) else None
            table = table[-1] if isinstance(table, list) and table else table
        if isinstance(table, dict):
            table[last] = value
    parse_or_refuse(to_toml(document))


def to_toml(value: Any) -> str:
    """A document with every table inline, which is the shortest TOML writer that there is."""
    return "".join(f"{json.dumps(key)} = {_inline(item)}\n" for key, item in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (bool, int, float)):
        return str(value).lower()
    return str(value.isoformat())


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def test_a_dumped_configuration_reads_back_as_the_same() -> None:
    cluster = config.parse(VALID, "c")
    text = to_toml(_without_none(cluster.model_dump(mode="json", by_alias=True)))
    assert config.parse(text, "c") == cluster


def test_a_cluster_survives_validation_of_its_own_dump() -> None:
    cluster = config.parse(VALID, "c")
    assert Cluster.model_validate({**cluster.model_dump(by_alias=True), "path": cluster.path}) == cluster


@given(st.floats(0, MAX_DURATION_S))
def test_a_duration_reads_back_as_it_was_written(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
    assert parse_duration(seconds) == seconds


def test_how_durations_are_written() -> None:
    said = {
        0.0: "0s",
        0.0005: "0.5ms",
        0.1: "100ms",
        1.5: "1.5s",
        90.0: "90s",
        300.0: "5m",
        7200.0: "2h",
        86400.0: "1d",
    }
    assert {seconds: format_duration(seconds) for seconds in said} == said
    assert [parse_duration(text) for text in (" 100 ms ", "2s", "1.5m", "1h", "2d")] == [
        0.1,
        2.0,
        90.0,
        3600.0,
        172800.0,
    ]


POSITIONS = """\
# a comment
a.b = 1   # another
"q\\u0041" . c = [ 1,
  # not an element
  2, {x = 1, y.z = [3,
4]} ]
[t]
[t.sub]
k = "v"
[[v]]
n = 1
[[v.real]]
a = 1
[v.check]
type = "x"
[[v.real]]
[[v]]
real = [{a = 1},
        {a = 2}]
[[v]]
"""


def test_the_line_of_every_key() -> None:
    assert positions.lines(POSITIONS) == {
        (): 1,
        ("a",): 2, ("a", "b"): 2,
        ("qA",): 3, ("qA", "c"): 3, ("qA", "c", 0): 3, ("qA", "c", 1): 5, ("qA", "c", 2): 5,
        ("qA", "c", 2, "x"): 5, ("qA", "c", 2, "y"): 5, ("qA", "c", 2, "y", "z"): 5,
        ("qA", "c", 2, "y", "z", 0): 5, ("qA", "c", 2, "y", "z", 1): 6,
        ("t",): 7, ("t", "sub"): 8, ("t", "sub", "k"): 9,
        ("v",): 10, ("v", 0): 10, ("v", 0, "n"): 11,
        ("v", 0, "real"): 12, ("v", 0, "real", 0): 12, ("v", 0, "real", 0, "a"): 13,
        ("v", 0, "check"): 14, ("v", 0, "check", "type"): 15,
        ("v", 0, "real", 1): 16,
        ("v", 1): 17, ("v", 1, "real"): 18, ("v", 1, "real", 0): 18, ("v", 1, "real", 0, "a"): 18,
        ("v", 1, "real", 1): 19, ("v", 1, "real", 1, "a"): 19,
        ("v", 2): 20,
    }  # fmt: skip


def _places(value: Any, place: positions.Path = ()) -> set[positions.Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {place}.union(*(_places(item, (*place, key)) for key, item in items))


@given(st.text(alphabet="[]{}=.\"'#,\n ab1-_"))
@settings(max_examples=300)
def test_every_place_of_any_document_has_a_line(text: str) -> None:
    try:
        values = syntax.read(text)
    except syntax.SyntaxProblem:
        return
    assert set(positions.lines(text)) == _places(values)


def test_every_place_of_an_example_has_a_line() -> None:
    assert set(positions.lines(VALID)) == _places(syntax.read(VALID))
    assert set(positions.lines(POSITIONS)) == _places(syntax.read(POSITIONS))
