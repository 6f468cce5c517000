"""docs/checks.md against the tables of the program: every type, every service, and what each reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lb import catalog, config
from lb.kinds import KINDS, LOGIN_KEYS, SECRET_KEYS

TEXT = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
GROUPS = {"login": LOGIN_KEYS, "secret": SECRET_KEYS}


def table(heading: str) -> dict[str, list[str]]:
    """The first table below a heading: its rows by their first word."""
    body = TEXT.split(f"\n## {heading}\n")[1]
    (block,) = re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE)[:1]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()[2:]]
    return {re.findall(r"`(\w+)`", row[0])[0]: row for row in rows}


SERVICES = table("Services")


def words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_every_type_is_there() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT.split("\n## Services\n")[0], re.MULTILINE)
    assert [word for row in rows[1:] for word in words(row)] == list(catalog.CHECKS)


def test_every_service_is_there() -> None:
    assert list(SERVICES) == list(catalog.SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_reads(service: str) -> None:
    kind = KINDS["negotiate", service]
    _, passes, keys, tls, ports, extra = SERVICES[service]
    alone = kind.reads.count("login") and "passwd" not in kind.reads
    said = {key for word in words(keys) for key in ((word,) if alone else GROUPS.get(word, (word,)))}
    said |= {"port"}
    assert said == kind.keys - {"tls", "verify", "ca", "sni", "certificate", "key", "expiry"}
    assert words(tls) == list(kind.tls)
    assert (tls == "always") is kind.always
    assert [int(port) for port in re.findall(r"\d+", ports)] == list(kind.ports)
    assert words(extra) == ([kind.extra] if kind.extra else [])
    needed = {key for need in kind.needs for key in need.split("|")}
    bold = set(re.findall(r"\*\*`(\w+)`\*\*", passes))
    assert {GROUPS.get(key, (key,))[0] for key in bold} == {key for key in needed if not key.endswith("_file")}


EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
AROUND = """
[cluster]
interface = "eth0"
[[node]]
name = "lb1"
address = "192.168.1.103"
[[virtual]]
name = "web"
address = "192.168.1.105"
port = 80
[[virtual.real]]
address = "192.168.1.101"
"""


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_valid(example: str) -> None:
    assert config.parse(AROUND + example, "docs").virtuals[0].check.questions
