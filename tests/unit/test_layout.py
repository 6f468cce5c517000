"""The rules of the house, held over the source itself: who may import whom, and how long a file may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

from lb.kinds import KINDS
from lb.probes import PROBES

ROOT = Path(__file__).parents[2]
OURS = ("lb", "ha", "bpf")

LAYERS = (
    # Words and values: what everybody speaks of.
    (
        *("lb.errors", "lb.catalog", "lb.wording", "lb.addresses", "lb.fields", "lb.kinds", "lb.asking", "lb.ends"),
        "lb.model",
        *("lb.service", "lb.connections", "lb.tcp"),
    ),
    # Cores: pure functions and state machines; time and chance are arguments.
    (
        "lb.earlies",
        *("lb.config", "lb.syntax", "lb.positions", "lb.shapes", "lb.rules", "lb.hosts", "lb.questions", "lb.advice"),
        *("lb.health", "lb.weights", "lb.plan", "lb.byhand", "lb.history", "lb.alerts.digest"),
        *("lb.schedule", "lb.abi", "lb.options", "lb.limits", "lb.reference"),
        *("lb.lab.topology", "lb.lab.addressing", "lb.lab.pages", "lb.lab.design", "lb.migrate"),
        *("ha.state", "ha.conditions", "ha.role", "ha.passes", "ha.wire", "ha.timing", "ha.heartbeat"),
        *("ha.counters", "ha.member"),
        *("ha.duties", "ha.ways", "ha.digest", "ha.share", "ha.hooks", "ha.rows", "ha.session", "ha.sync"),
        *("ha.status", "ha.ndisc", "ha.settings"),
    ),
    # Edges: each talks to one part of the outside world. What has no row here is an edge.
    ("lb", "ha", "bpf"),
    # The daemon, which holds the parts together.
    ("lb.director", "lb.ownership", "lb.orders", "lb.daemon"),
    # The command line.
    ("lb.cli", "lb.__main__", "lb.lab.demo"),
)
PURE_LAYERS = 2
DAEMON_LAYER = 3

IMPURE = (
    *("asyncio", "select", "selectors", "socket", "threading", "time", "uvloop"),
    *("bcc", "ctypes", "multiprocessing", "pyroute2", "random", "secrets", "subprocess"),
)

ONLY_IMPORTERS = {"bcc": ("lb.datapath.compiler",), "pyroute2": ("lb.netif", "lb.lab")}
COME_WITH_ANOTHER = {"yarl": "aiohttp", "pydantic_core": "pydantic"}
"""Parts of another library's own interface."""

HA_MAY_IMPORT = ("ha", "lb.addresses", "lb.model", "lb.connections", "lb.errors", "lb.bpf")

PROGRAMS = {"arp", "arping", "bpftool", "brctl", "ethtool", "ifconfig", "ip", "ipvsadm", "sysctl", "tc"}
"""What pyroute2 and /proc do for us outside the lab."""

SPAWNING = {"subprocess", "create_subprocess_exec", "create_subprocess_shell", "execvp", "posix_spawn"}

MAX_LINES = 500


class Import(NamedTuple):
    """module: the module that imports, at line; target: the module that is imported."""

    module: str
    line: int
    target: str


def name_of(path: Path) -> str:
    """The dotted name of one of our modules."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))}


def names_in(tree: ast.AST) -> set[str]:
    """Every name and attribute that a module uses."""
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def within(module: str, names: tuple[str, ...]) -> bool:
    """Is it one of these modules, or inside one of these packages?"""
    return any(module == name or module.startswith(name + ".") for name in names)


def layer_of(module: str) -> int:
    """The place in LAYERS of the longest name that fits; our packages' own __init__ are empty and lowest."""
    if module in OURS:
        return 0
    rows = [(len(name), layer) for layer, names in enumerate(LAYERS) for name in names if within(module, (name,))]
    return max(rows)[1]


def imports_in(module: str, tree: ast.AST) -> Iterator[Import]:
    """Every import of a module, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import; write the module's full name"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(module, node.lineno, inner if inner in MODULES else node.module)


TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}
IMPORTS = [found for module, tree in TREES.items() for found in imports_in(module, tree)]


def place(module: str, line: int) -> str:
    """FILE:LINE"""
    return f"{MODULES[module].relative_to(ROOT)}:{line}"


def top(found: Import) -> str:
    """The package that an import comes from."""
    return found.target.partition(".")[0]


def told(broken: list[Import]) -> str:
    """The violations, one line each."""
    return "\n".join(sorted({f"{place(i.module, i.line)} imports {i.target}" for i in broken}))


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import os.path\nfrom lb import model, errors\nfrom lb.model import Real\ndef f():\n    import time"
    assert [(i.line, i.target) for i in imports_in("x", ast.parse(source))] == [
        (1, "os.path"),
        (2, "lb.model"),
        (2, "lb.errors"),
        (3, "lb.model"),
        (5, "time"),
    ]


@pytest.mark.parametrize(
    ("module", "layer"), [("lb", 0), ("lb.model", 0), ("ha.role", 1), ("lb.lab.hosts", 2), ("lb.lab.demo", 4)]
)
def test_a_module_without_a_row_is_an_edge(module: str, layer: int) -> None:
    assert layer_of(module) == layer


def test_imports_point_one_way() -> None:
    broken = [i for i in IMPORTS if within(i.target, OURS) and layer_of(i.target) > layer_of(i.module)]
    assert not broken, told(broken)


def is_pure(module: str) -> bool:
    """By its layer, or because its docstring says so."""
    words = ast.get_docstring(TREES[module]) or ""
    return layer_of(module) < PURE_LAYERS or bool(re.search(r"\b(?:Pure|Sans-I/O)\b", words))


def test_pure_modules_touch_nothing_outside() -> None:
    broken = [i for i in IMPORTS if is_pure(i.module) and within(i.target, IMPURE)]
    assert not broken, told(broken)
    assert {"lb.model", "lb.plan", "ha.role"} <= {module for module in MODULES if is_pure(module)}


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_a_library_with_one_importer(library: str) -> None:
    allowed = ONLY_IMPORTERS[library]
    broken = [i for i in IMPORTS if within(i.target, (library,)) and not within(i.module, allowed)]
    assert not broken, told(broken)


def test_ha_knows_little_of_the_rest() -> None:
    broken = [
        i
        for i in IMPORTS
        if within(i.module, ("ha",)) and within(i.target, OURS) and not within(i.target, HA_MAY_IMPORT)
    ]
    assert not broken, told(broken)


def test_only_the_daemon_and_the_command_line_know_ha() -> None:
    broken = [
        i
        for i in IMPORTS
        if within(i.target, ("ha",)) and not within(i.module, ("ha",)) and layer_of(i.module) < DAEMON_LAYER
    ]
    assert not broken, told(broken)


def declared(*groups: str) -> set[str]:
    """The import names of what pyproject.toml asks for, in its dependencies and these optional groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for group in groups for text in project["optional-dependencies"][group])]
    return {re.split(r"[^\w-]", text)[0].replace("-", "_") for text in texts}


def test_every_library_is_declared() -> None:
    """What is imported stands in pyproject.toml instead of coming along with something else."""
    known = {*OURS, *sys.stdlib_module_names, *declared(), "bcc", *COME_WITH_ANOTHER}
    more = {"lb.lab": declared("lab")}
    for row, kind in KINDS.items():
        more.setdefault(f"lb.probes.{PROBES[row].partition(':')[0]}", set()).add(kind.library)
    broken = [
        i
        for i in IMPORTS
        if top(i) not in known and not any(within(i.module, (name,)) and top(i) in some for name, some in more.items())
    ]
    assert not broken, told(broken)


def test_the_extra_of_a_check_brings_its_library_and_all_of_them_come_together() -> None:
    extras = {kind.extra: kind.library for kind in KINDS.values() if kind.extra}
    distributions = packages_distributions()
    for extra, library in extras.items():
        assert declared(extra) - declared() == {name.replace("-", "_") for name in distributions[library]}
    (together,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["checks"]
    assert together == f"lbctl[{','.join(sorted(extras))}]"


def test_every_declared_library_is_used() -> None:
    assert not declared("lab") - {top(i) for i in IMPORTS}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("lb.cli.status", ("aiohttp", "numpy", "pydantic", "pyroute2", "structlog", "uvloop")),
        ("lb.cli.control", ("aiohttp", "numpy", "pydantic", "pyroute2", "structlog", "uvloop")),
        ("lb.cli.lab", ("aiohttp", "numpy", "pyroute2", "structlog", "uvloop")),
    ],
)
def test_a_command_loads_no_library_that_it_can_do_without(module: str, heavy: tuple[str, ...]) -> None:
    """Each of these takes longer than the command itself, which people and scripts call again and again."""
    script = f"import sys, {module}; print(*sorted(sys.modules.keys() & set({heavy})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_no_program_does_the_work_of_netlink_outside_the_lab() -> None:
    broken = []
    for module, tree in TREES.items():
        if within(module, ("lb.lab",)) or not SPAWNING & names_in(tree):
            continue
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        broken += [
            f"{place(module, node.lineno)} {node.value!r}"
            for node in texts
            if Path(str(node.value).split(" ")[0]).name in PROGRAMS
        ]
    assert not broken, "\n".join(broken)


def test_only_programs_print() -> None:
    """The command line, and modules that are run by `python -m`; everything else logs."""
    printing = [module for module, tree in TREES.items() if "print" in names_in(tree)]
    programs = [module for module in printing if 'if __name__ == "__main__":' in MODULES[module].read_text()]
    assert [module for module in printing if module not in programs and not within(module, ("lb.cli",))] == []


def test_no_file_is_too_long() -> None:
    files = [
        path
        for folder in (*OURS, "bench", "tests", "script", "conf")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".c", ".h", ".toml", ".sh", "") and path.is_file() and path.name != "LICENSE"
    ]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {"lb/model.py", "script/test"} <= set(lengths)
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
