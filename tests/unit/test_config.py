"""`lb.config`: every way in which one file can be wrong, with the exact lines that its author reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lb import config
from lb.errors import ConfigError

VALID = """\
[cluster]
interface = "eth0"
[[node]]
name = "lb1"
address = "192.168.1.103"
[[node]]
name = "lb2"
address = "192.168.1.104"
[ha]
preferred = "lb1"
ping = ["192.168.1.1"]
[connections]
max = 65536
[[virtual]]
name = "web"
address = "192.168.1.105"
port = 80
fallback = "127.0.0.1:80"
[virtual.check]
type = "negotiate"
receive = "Test Page"
[[virtual.real]]
name = "web1"
address = "192.168.1.101"
[[virtual.real]]
name = "web2"
address = "192.168.1.102"
"""


def problems(text: str) -> list[str]:
    """What `text` is refused with, without the file's name: `LINE: PATH: MESSAGE`."""
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "c")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("c:") for line in lines)
    return [line.removeprefix("c:").strip() for line in lines]


class Breakage(NamedTuple):
    """VALID changed: old becomes new. expected: what is said about it."""

    old: str
    new: str
    expected: list[str]


def breakages(name: str) -> Iterator[Breakage]:
    """The blocks of a file beside this one."""
    for block in (Path(__file__).parent / name).read_text().split("\n\n"):
        rows = [row for row in block.splitlines() if not row.startswith("#")]
        old = "".join(row[2:] + "\n" for row in rows if row.startswith("-"))
        new = "".join(row[2:] + "\n" for row in rows if row.startswith("+"))
        if rows:
            yield Breakage(old, new, [row for row in rows if row[0] not in "-+"])


BREAKAGES = list(breakages("broken_configurations.txt"))


def test_the_example_is_valid() -> None:
    assert [v.name for v in config.parse(VALID, "c").virtuals] == ["web"]


@pytest.mark.parametrize("breakage", BREAKAGES, ids=[b.expected[0].split(": ")[1] for b in BREAKAGES])
def test_a_broken_configuration(breakage: Breakage) -> None:
    assert VALID.count(breakage.old) == 1
    assert problems(VALID.replace(breakage.old, breakage.new)) == breakage.expected


def test_an_absurd_number_is_not_printed() -> None:
    absurd = f"0x{'f' * 5000}"
    text = VALID.replace("max = 65536", f"max = {absurd}").replace('"eth0"', absurd)
    assert problems(text) == [
        "2: cluster.interface: a number of more than 60 digits is not text; write it in quotes",
        "13: connections.max: a number of more than 60 digits is out of range; accepted: 1024 to 16777216",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ha = 1\n",
            [
                'cluster: is missing; add [cluster] with interface = "eth0"',
                "1: ha: 1 is not a table; write [ha] and its keys below",
                'node: is missing; add a [[node]] with name = "lb1" and address = "192.168.1.103" for each director',
            ],
        ),
        (
            'node = [1]\n[cluster]\ninterface = "a"\n',
            ["1: node[0]: 1 is not a table; write [[node]] and its keys below"],
        ),
        (
            '[cluster]\ninterface = "a"\n[node]\nname = "x"\n',
            ["3: node: is a table; write [[node]], with double brackets"],
        ),
        (
            'node = []\n[cluster]\ninterface = "a"\n',
            ["1: node: there is no director; add a [[node]] with name and address"],
        ),
    ],
)
def test_sections_of_another_kind(text: str, expected: list[str]) -> None:
    assert sorted(problems(text)) == sorted(expected)


def test_the_same_address_may_have_several_services() -> None:
    other = '[[virtual]]\nname = "dns"\naddress = "192.168.1.105"\nport = 80\nprotocol = "udp"\n'
    every = '[[virtual]]\nname = "all"\naddress = "192.168.1.105"\nport = 0\ncheck = {type = "on"}\n'
    shared = '[[virtual.real]]\nname = "web1"\naddress = "192.168.1.101"\n'
    assert len(config.parse(VALID + other + shared + every, "c").virtuals) == 3


def test_all_problems_of_a_file_at_once_in_its_order() -> None:
    text = """\
[cluster]
interface = 3
[[node]]
name = "lb1"
[[node]]
name = "lb1"
address = "192.168.1.104"
[ha]
deadtime = 0.1
preferred = "lb9"
[[virtual]]
name = "web"
address = "192.168.1.105"
port = 80
scheduler = "rrr"
[[virtual.real]]
address = "192.168.1.105"
port = 80
"""
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["2", "cluster.interface"],
        ["3", "node[0].address"],
        ["6", "node[1].name"],
        ["9", "ha.deadtime"],
        ["10", "ha.preferred"],
        ["13", "virtual[0].address"],
        ["15", "virtual[0].scheduler"],
        ["18", "virtual[0].real[0].port"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "lb1"', "name = 1", '4: node[0].name: 1 is not text; write it in quotes: "1"'),
        ("[ha]\n", "[ha]\nkeepalive = 'fast'\n", "10: ha.keepalive"),
        ("port = 80\n", "port = 'http'\n", "17: virtual[0].port: 'http' is not a whole number"),
        ('address = "192.168.1.105"', "address = 'web'", "16: virtual[0].address: 'web' is not an IP address"),
    ],
)
def test_a_broken_value_is_not_reported_again_by_the_rules(old: str, new: str, expected: str) -> None:
    """`preferred = "lb1"` would otherwise be no node, and 0.5 s no deadtime for a keepalive of who knows what."""
    assert VALID.count(old) == 1
    (line,) = problems(VALID.replace(old, new))
    assert line.startswith(expected)


@pytest.mark.parametrize(("others", "most"), [((), 256), (("lc", "sed", "nq"), 256), (("lc", "sed", "nq", "rr"), 128)])
def test_schedulers_that_compare_reals_compare_so_many(others: tuple[str, ...], most: int) -> None:
    """More of them than a kernel has the patience to check are refused before it is asked."""

    def text(count: int) -> str:
        reals = "".join(f'[[virtual.real]]\naddress = "10.1.{n >> 8}.{n & 255}"\n' for n in range(1, count + 1))
        tables = [f'[[virtual]]\nname = "web"\naddress = "10.0.0.1"\nport = 1\nscheduler = "wlc"\n{reals}']
        tables += [
            f'[[virtual]]\nname = "{name}"\naddress = "10.0.0.1"\nport = {n}\nscheduler = "{name}"\n'
            '[[virtual.real]]\naddress = "10.1.0.1"\n'
            for n, name in enumerate(others, start=2)
        ]
        return "".join((VALID[: VALID.index("[[virtual]]")], *tables))

    assert len(config.parse(text(most), "c").virtuals) == 1 + len(others)
    (problem,) = problems(text(most + 1))
    assert f"{most + 1} reals are more than scheduler 'wlc' can compare" in problem
    assert f"accepted: {most}" in problem
