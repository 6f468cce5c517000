"""What is missing on this machine for the checks of a configuration, and who says so when."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lb import config
from lb.cli import cli
from lb.errors import ConfigError
from lb.obstacles import obstacles
from lb.probes import NotAskedError, Target, probe_of
from lb.probes.base import password_of
from tests.unit.test_checks_docs import AROUND

CHECK = AROUND + "[virtual.check]\n"


def found(tmp_path: Path, check: str) -> list[str]:
    """The lines that a director would refuse the file with."""
    path = tmp_path / "cluster.toml"
    path.write_text(CHECK + check)
    assert config.load(path)  # by itself it is valid
    try:
        config.load(path, obstacles)
    except ConfigError as error:
        return [line.partition(f"{path}:")[2] for line in error.lines()]
    return []


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in libraries else find_spec(name, *rest)
    )


def test_nothing_is_missing(tmp_path: Path) -> None:
    assert found(tmp_path, 'type = "negotiate"\nservice = "mysql"\nlogin = "jane"\n') == []
    assert found(tmp_path, 'type = "external"\ncommand = ["true"]\n') == []


def test_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "pymysql")
    assert found(tmp_path, 'type = "negotiate"\nservice = "mysql"\nlogin = "jane"\n') == [
        "15: virtual[0].check.service: 'mysql' needs pymysql, which is missing: pip install 'lbctl[mysql]'"
    ]


def test_a_program_and_files(tmp_path: Path) -> None:
    part = '[[virtual.check.part]]\ntype = "external"\ncommand = ["/no/such/program"]\n'
    tls = '[[virtual.check.part]]\ntype = "negotiate"\nservice = "https"\nca = "ca.pem"\npasswd_file = "."\n'
    assert found(tmp_path, f'type = "all"\n{part}{tls}') == [
        "17: virtual[0].check.part[0].command: '/no/such/program' is not a program that can be run here",
        f"21: virtual[0].check.part[1].ca: {tmp_path}/ca.pem: no such file or directory",
        f"22: virtual[0].check.part[1].passwd_file: {tmp_path}: is a directory",
    ]


def test_lbctl_check_warns(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(f'{CHECK}type = "external"\ncommand = ["/no/such/program"]\n')
    done = CliRunner().invoke(cli, ["check", str(path)])
    assert done.exit_code == 0
    assert "warning: virtual[0].check.command: '/no/such/program' is not a program" in done.stderr
    assert "run /no/such/program" in done.stdout


def test_a_password_is_not_in_what_lbctl_check_prints(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    secrets = 'passwd = "hunter2"\nsecret = "swordfish"\n'
    path.write_text(f'{CHECK}type = "negotiate"\nservice = "radius"\nlogin = "j"\n{secrets}')
    for words in (["check", str(path)], ["check", "--json", str(path)]):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0
        assert "hunter2" not in done.output
        assert "swordfish" not in done.output
    check = json.loads(done.stdout)["config"]["virtual"][0]["check"]
    assert (check["login"], check["passwd"], check["secret"]) == ("j", "**********", "**********")
    cluster = config.load(path)
    assert "hunter2" not in f"{cluster!r} {cluster}"
    assert password_of(cluster.virtuals[0].check) == "hunter2"


def test_a_changed_password_is_a_changed_target(tmp_path: Path) -> None:
    """A reload must see it, though it is never shown."""
    path = tmp_path / "cluster.toml"
    targets = []
    for password in ("hunter2", "swordfish", "swordfish"):
        path.write_text(f'{CHECK}type = "negotiate"\nservice = "pop"\nlogin = "j"\npasswd = "{password}"\n')
        virtual = config.load(path).virtuals[0]
        targets.append(Target(virtual.reals[0].address, 80, virtual.check, None))  # type: ignore[arg-type]
    assert targets[0] != targets[1] == targets[2]


def test_a_library_that_goes_away_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrad.packet", None)
    monkeypatch.delitem(sys.modules, "lb.probes.radius", raising=False)
    probe_of.cache_clear()
    with pytest.raises(NotAskedError, match=r"radius needs pyrad\.packet: pip install 'lbctl\[radius\]'"):
        probe_of("negotiate", "radius")
    probe_of.cache_clear()


def test_a_password_file_of_several_lines_is_no_password(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("one\ntwo\n")
    (tmp_path / "cluster.toml").write_text(
        f'{CHECK}type = "negotiate"\nservice = "pop"\nlogin = "j"\npasswd_file = "password"\n'
    )
    check = config.load(tmp_path / "cluster.toml").virtuals[0].check
    with pytest.raises(NotAskedError, match="more than one line"):
        password_of(check)
    path.write_text("three\r\n")
    assert password_of(check) == "three"
