"""The configuration file: TOML in, a `Cluster` out, or every problem at once.

bytes ──decode──→ text ──lb.syntax──→ values ──lb.shapes──→ cluster ──lb.rules──→ contradictions
                   └──lb.positions──→ lines, only where something is to be reported
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path as FilePath
from typing import NamedTuple

from lb import advice, positions, rules, shapes, syntax
from lb.addresses import Address
from lb.errors import ConfigError, Problem, UsageError
from lb.model import Cluster, Node
from lb.positions import Finding, Path
from lb.wording import did_you_mean, show, show_path

LARGEST = 16 << 20
"""Bytes of a file that is still read; ten thousand reals need less than one MiB."""


Adviser = Callable[[Cluster], Iterable[Finding]]


class Examined(NamedTuple):
    """A valid configuration, and what is probably not meant in it."""

    cluster: Cluster
    warnings: tuple[Problem, ...]


def load(path: str | FilePath, *inspectors: Adviser) -> Cluster:
    """The cluster that the file at `path` describes. Raises ConfigError with all problems.

    inspectors: whose findings are errors, too, because the cluster is to run here.
    """
    text = _text(path)
    cluster = parse(text, str(path))
    if found := [finding for inspector in inspectors for finding in inspector(cluster)]:
        raise ConfigError(str(path), tuple(sorted(_problems(text, found))))
    return cluster


def parse(text: str, file: str) -> Cluster:
    """The cluster that `text` describes; `file` is where it came from. Raises ConfigError with all problems."""
    return _build(text, file)


def examine(path: str | FilePath, *advisers: Adviser) -> Examined:
    """As `load`, with the warnings: `lb.advice`'s and those of `advisers`, who may look beyond the file."""
    text = _text(path)
    cluster = _build(text, str(path))
    found = [finding for adviser in (advice.warnings, *advisers) for finding in adviser(cluster)]
    return Examined(cluster, tuple(sorted(_problems(text, found))))


def which_node(cluster: Cluster, asked: str | None, hostname: str, addresses: Iterable[Address]) -> Node:
    """Which director this machine is: the one asked for, else by host name, else by address.

    hostname: as `uname -n`, with or without domain. addresses: of this machine. Raises UsageError.
    """
    names = [node.name for node in cluster.nodes]
    if asked is not None:
        if asked in names:
            return cluster.node(asked)
        raise UsageError(
            f"{show(asked)} is not a node of {cluster.path} ({', '.join(names)}){did_you_mean(asked, names)}"
        )
    host = hostname.lower()
    by_name = [node for node in cluster.nodes if node.name.lower() == host]
    by_short_name = [node for node in cluster.nodes if _short(node.name) == _short(host)]
    mine = set(addresses)
    by_address = [node for node in cluster.nodes if node.address in mine]
    for candidates in (by_name, by_short_name, by_address):
        if len(candidates) == 1:
            return candidates[0]
    nodes = ", ".join(f"{node.name} {node.address}" for node in cluster.nodes)
    raise UsageError(
        f"this machine ({show(hostname)}) is no node of {cluster.path} ({nodes}); say which one with --node NAME"
    )


def _short(name: str) -> str:
    return name.lower().partition(".")[0]


def _build(text: str, file: str) -> Cluster:
    if not text.strip():
        raise ConfigError(file, (Problem(0, "", "is empty; conf/cluster.toml is an example to start from"),))
    try:
        values = syntax.read(text)
    except syntax.SyntaxProblem as error:
        raise ConfigError(file, (error.problem,)) from None
    cluster, found = shapes.build(values, FilePath(file).absolute())
    cluster = cluster.inherited()
    broken = {finding.places[0] for finding in found}
    found += [finding for finding in rules.contradictions(cluster) if not _rests_on(broken, finding)]
    if found:
        raise ConfigError(file, tuple(_problems(text, found)))
    return cluster


def _rests_on(broken: Collection[Path], finding: Finding) -> bool:
    """Did a rule look at a value, or into a table, that is only a stand-in?"""
    return any(place[:depth] in broken for place in finding.places for depth in range(1, len(place) + 1))


def _problems(text: str, found: Sequence[Finding]) -> list[Problem]:
    if not found:
        return []
    lines = positions.lines(text)
    return [Problem(positions.line_of(lines, places[0]), show_path(places[0]), message) for places, message in found]


def _text(path: str | FilePath) -> str:
    """The file's text, without byte order mark and carriage returns at line ends. Raises ConfigError."""
    try:
        with FilePath(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise _refused(path, 0, f"cannot be read: {reason[0].lower()}{reason[1:]}") from None
    if len(content) > LARGEST:
        raise _refused(path, 0, f"is larger than {LARGEST >> 20} MiB and is not a configuration")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refused(path, 0, "is UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise _refused(path, line, f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8") from None


def _refused(path: str | FilePath, line: int, message: str) -> ConfigError:
    return ConfigError(str(path), (Problem(line, "", message),))
