"""The service units, script/provision and Vagrantfile: do they call what there is? Vagrant itself is not needed."""

from __future__ import annotations

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

import click
import pytest

from lb.cli import cli

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "conf").glob("*.service"))
PROVISION = ROOT / "script" / "provision"
BOOTSTRAP = ROOT / "script" / "bootstrap"


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


def accepts(words: list[str]) -> None:
    """Would lbctl take these arguments? Raises click.UsageError. Nothing is run."""
    group: click.Command = cli
    while isinstance(group, click.Group):
        name, command, words = group.resolve_command(click.Context(group), words)
        assert command is not None, name
        group = command
    group.make_context("lbctl", words)


def test_there_are_two_units() -> None:
    assert [path.name for path in UNITS] == ["lbctl-realserver.service", "lbctl.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_command_of_a_unit_is_one_of_lbctl(path: Path) -> None:
    commands = {key: value for key, value in unit(path)["Service"].items() if key.startswith("Exec")}
    assert set(commands) == {"ExecStart", "ExecReload", "ExecStop"}
    for command in commands.values():
        program, *words = command.split()
        assert program == "/usr/local/bin/lbctl"
        accepts(words)


def test_arguments_that_lbctl_does_not_have_are_noticed() -> None:
    with pytest.raises(click.UsageError):
        accepts(["up", "conf", "--fast"])
    with pytest.raises(click.UsageError):
        accepts(["upp", "conf"])


def test_the_program_lies_where_bootstrap_links_it() -> None:
    assert "/usr/local/bin/lbctl" in BOOTSTRAP.read_text()
    assert "script/bootstrap --production" in PROVISION.read_text()


def test_provision_installs_the_units_that_there_are() -> None:
    assert set(re.findall(r"^    service (\S+)$", PROVISION.read_text(), re.MULTILINE)) == {u.stem for u in UNITS}


def test_vagrant_asks_for_roles_that_provision_has() -> None:
    roles = set(re.findall(r'"(\w+)"\]', (ROOT / "Vagrantfile").read_text().split("Vagrant.configure")[0]))
    roles &= {"client", "director", "real"}
    assert roles == set(re.findall(r"^(\w+)\)$", PROVISION.read_text(), re.MULTILINE))


@pytest.mark.parametrize("words", [[], ["balancer"]])
def test_provision_without_a_role_says_which_there_are(words: list[str]) -> None:
    result = subprocess.run([PROVISION, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    for role in ("director", "real", "client"):
        assert f"script/provision {role}" in result.stderr


def test_provision_finds_the_line_that_it_changes() -> None:
    """`sed` in configure() expects the key at the start of a line, in the file's own spelling."""
    text = (ROOT / "conf" / "cluster.toml").read_text()
    assert len(re.findall(r'^interface = "[^"]*"', text, re.MULTILINE)) == 1
