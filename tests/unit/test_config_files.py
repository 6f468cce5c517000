"""`lb.config`: files that are no configuration, text that is no TOML, what is only worth a warning, and which node."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lb import config
from lb.errors import ConfigError, UsageError
from tests.unit.test_config import VALID, Breakage, breakages, problems


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.exit_status == 2
    return str(caught.value).replace(str(path), "FILE")


def test_no_such_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.toml") == "FILE: cannot be read: no such file or directory"


def test_a_directory(tmp_path: Path) -> None:
    assert refused(tmp_path) == "FILE: cannot be read: is a directory"


def test_an_impossible_path() -> None:
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        config.load("a\0b")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "FILE: is empty; conf/cluster.toml is an example to start from"),
        (b" \r\n\t\n", "FILE: is empty; conf/cluster.toml is an example to start from"),
        (b"\xef\xbb\xbf", "FILE: is empty; conf/cluster.toml is an example to start from"),
        (b'[cluster]\nname = "caf\xe9"\n', "FILE:2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (VALID.encode("utf-16"), "FILE: is UTF-16; save it as UTF-8"),
        (b"[cluster]\n\0\0\n", r"FILE:2: control character '\x00'; remove it"),
        (b"#" * (config.LARGEST + 1), "FILE: is larger than 16 MiB and is not a configuration"),
    ],
)
def test_content_that_is_no_text(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    assert refused(path) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_windows_editors_are_welcome(tmp_path: Path, newline: str, encoding: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(VALID, encoding=encoding, newline=newline)
    assert config.load(path).virtuals[0].reals[1].name == "web2"
    path.write_text(VALID.replace('"192.168.1.104"', '"192.168.1.999"'), encoding=encoding, newline=newline)
    assert refused(path).startswith("FILE:8: node[1].address: '192.168.1.999' is not")


def test_the_path_is_absolute_and_the_keys_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.toml").write_text(VALID)
    monkeypatch.chdir(tmp_path)
    cluster = config.load("c.toml")
    assert cluster.path == tmp_path / "c.toml"
    assert cluster.authkeys_path == tmp_path / "authkeys"


NOT_TOML = [
    ("keepalive = 100ms", "1: '100ms' is not a value; write keepalive = \"100ms\""),
    ("address = 192.168.1.1  # lb1", "1: '192.168.1.1' is not a value; write address = \"192.168.1.1\""),
    ("virtual=192.168.1.105:80", "1: '192.168.1.105:80' is not a value; write virtual = \"192.168.1.105:80\""),
    ("scheduler = rr", "1: 'rr' is not a value; write scheduler = \"rr\""),
    ("quiescent = yes", "1: 'yes' is not a value; write quiescent = true"),
    ("quiescent = False", "1: 'False' is not a value; write quiescent = false"),
    ("keepalive 100ms", "1: there is no '=' between key and value; write keepalive = \"100ms\""),
    ("auth 3\n3 md5 x", "1: there is no '=' between key and value; write auth = \"3\""),
    ("interface", "1: interface has no value; write interface = and the value"),
    ("a = 1\ninterface =", "2: interface has no value; write interface = and the value"),
    ("logfile = ”local0”", "1: ” is a typographic character; write \""),
    ("a = 1\n\nlogfile = ‘local0’", "3: ‘ is a typographic character; write '"),  # noqa: RUF001
    ("weight = –1", "1: – is a typographic character; write -"),  # noqa: RUF001
    ("a = 1\na = 2\nb = 1",
     "2: stands in the file twice; write each key and each [table] once (only [[...]] may repeat)"),
    ("[ha]\n[ha]", "2: stands in the file twice; write each key and each [table] once (only [[...]] may repeat)"),
    ("a = {b = 1, b = 2}",
     "1: stands in the file twice; write each key and each [table] once (only [[...]] may repeat)"),
    ('a = "x\n', "1: a text in quotes is not closed; close it with the quote that it begins with"),
    ('a = """x\n\n', "1: a text in quotes is not closed; close it with the quote that it begins with"),
    ("a = 'x", "1: a text in quotes is not closed; close it with the quote that it begins with"),
    ("[virtual", "1: a heading in brackets is not closed; write [table] or [[table]]"),
    ("[[virtual]", "1: a heading in brackets is not closed; write [table] or [[table]]"),
    ("a = [1, 2", "1: the value of a is not TOML; compare quotes, commas and brackets"),
    (r'a = "\q"', "1: the value of a is not TOML; compare quotes, commas and brackets"),
    ("{", "1: is not TOML: invalid statement"),
    ("a = " + "[" * 5000, "arrays or tables are nested too deeply; no key needs more than two levels"),
    ("a = " + "9" * 5000, "has a number of thousands of digits; no key accepts one"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), NOT_TOML, ids=[text[:20] for text, _ in NOT_TOML])
def test_text_that_is_no_toml(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def warned(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return [f"{w.line}: {w.path}: {w.message}" for w in config.examine(path).warnings]


QUESTIONABLE = list(breakages("questionable_configurations.txt"))


@pytest.mark.parametrize("change", QUESTIONABLE, ids=[c.expected[0].split(": ")[1] for c in QUESTIONABLE])
def test_what_is_legal_and_probably_not_meant(tmp_path: Path, change: Breakage) -> None:
    assert VALID.count(change.old) == 1
    assert warned(tmp_path, VALID.replace(change.old, change.new)) == change.expected


def test_nothing_to_balance(tmp_path: Path) -> None:
    text = VALID[: VALID.index("[[virtual]]")]
    assert warned(tmp_path, text) == ["0: : there is no [[virtual]]: nothing would be balanced"]


def test_nothing_to_warn_of(tmp_path: Path) -> None:
    assert warned(tmp_path, VALID) == []


HERE = [IPv4Address("127.0.0.1"), IPv4Address("10.0.0.1")]


@pytest.mark.parametrize(
    ("names", "asked", "hostname", "addresses", "expected"),
    [
        (("lb1", "lb2"), "lb2", "lb1", [IPv4Address("192.168.1.103")], "lb2"),
        (("lb1", "lb2"), None, "lb2", [IPv4Address("192.168.1.103")], "lb2"),
        (("lb1", "lb2"), None, "LB2.example.com", HERE, "lb2"),
        (("lb1.example.com", "lb2.example.com"), None, "lb2", HERE, "lb2.example.com"),
        (("lb.a.com", "lb.b.com"), None, "lb.b.com", HERE, "lb.b.com"),
        (("lb.a.com", "lb.b.com"), None, "lb", [IPv4Address("192.168.1.104")], "lb.b.com"),
        (("lb1", "lb2"), None, "debian", [*HERE, IPv4Address("192.168.1.104")], "lb2"),
    ],
)
def test_which_node_i_am(
    names: tuple[str, str], asked: str | None, hostname: str, addresses: list[IPv4Address], expected: str
) -> None:
    text = VALID.replace('"lb1"', f'"{names[0]}"').replace('"lb2"', f'"{names[1]}"')
    assert config.which_node(config.parse(text, "/c"), asked, hostname, addresses).name == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("lb3", "'lb3' is not a node of /c (lb1, lb2); did you mean 'lb2'?"),
        (None, "this machine ('debian') is no node of /c (lb1 192.168.1.103, lb2 192.168.1.104); "
               "say which one with --node NAME"),
    ],
)  # fmt: skip
def test_no_node_at_all(asked: str | None, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.which_node(config.parse(VALID, "/c"), asked, "debian", HERE)
    assert str(caught.value) == message


def test_two_nodes_with_my_addresses_are_no_answer() -> None:
    mine = [IPv4Address("192.168.1.103"), IPv4Address("192.168.1.104")]
    with pytest.raises(UsageError, match="say which one"):
        config.which_node(config.parse(VALID, "/c"), None, "debian", mine)
