"""`lbctl check` and `lbctl authkeys` as users call them: output, error output and exit status."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ha import authkeys
from lb import config
from lb.cli import cli
from lb.errors import ConfigError, LbctlError, UsageError
from tests.unit.test_config import VALID

ROOT = Path(__file__).parents[2]


def lbctl(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """VALID with its authkeys."""
    path = tmp_path / "cluster.toml"
    path.write_text(VALID)
    assert lbctl("authkeys", tmp_path / "authkeys").exit_code == 0
    return path


def test_check_says_what_would_run(conf: Path) -> None:
    result = lbctl("check", conf)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert (
        result.stdout
        == f"""\
cluster lbctl: XDP on eth0, native where the driver can, else generic
director lb1  192.168.1.103  eth0  preferred
director lb2  192.168.1.104  eth0
failover: heartbeat every 100ms, late after 250ms, dead after 500ms (3s after a start), UDP and TCP port 694
  after a failover the service stays where it is
  witnesses: 192.168.1.1; keys: {conf.parent}/authkeys
connections: up to 65536, forgotten after 15m of silence, 2m when closing, 5m for udp
virtual web: tcp 192.168.1.105:80, scheduler rr, forward gate
  check     GET http://REAL:80/, status 2xx, body matches 'Test Page'; every 2s, timeout 1s, down after 2 failures, \
up after 1 success
  fallback  127.0.0.1:80 (the active director itself)
  real      web1  192.168.1.101  weight 1
  real      web2  192.168.1.102  weight 1
"""
    )


def test_check_says_it_of_other_choices_too(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("""\
[cluster]
name = "x"
interface = "eth0"
attach = "native"
[[node]]
name = "lb1"
address = "10.0.0.1"
interface = "eth7"
[ha]
auto_failback = true
preferred = "lb1"
[[virtual]]
name = "a"
address = "10.0.0.5"
port = 0
fallback = "10.0.0.9"
check = {type = "connect", port = 22, rises = 2, failures = 1}
[[virtual]]
name = "b"
address = "10.0.0.5"
port = 443
check = {type = "negotiate", service = "https", method = "HEAD", virtualhost = "www", status = [200, 404]}
real = [{address = "10.0.0.6", weight = 0}, {address = "10.0.0.7", weight = 10}]
[[virtual]]
name = "c"
address = "10.0.0.5"
port = 1
check = {type = "on"}
[[virtual]]
name = "d"
address = "10.0.0.5"
port = 2
check = {type = "off"}
""")
    result = lbctl("check", path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["cluster x: XDP on eth0, native only", "director lb1  10.0.0.1  eth7  preferred"]
    assert lines[3:] == [
        "virtual a: tcp 10.0.0.5:every port, scheduler rr, forward gate",
        "  check     connect to TCP port 22; every 2s, timeout 1s, down after 1 failure, up after 2 successes",
        "  fallback  10.0.0.9",
        "virtual b: tcp 10.0.0.5:443, scheduler rr, forward gate",
        "  check     HEAD https://REAL:443/ as www, status 200, 404; every 2s, timeout 1s, down after 2 failures, "
        "up after 1 success",
        "  fallback  none: while no real is up, new connections are dropped",
        "  real        10.0.0.6  weight 0",
        "  real        10.0.0.7  weight 10",
        "virtual c: tcp 10.0.0.5:1, scheduler rr, forward gate",
        "  check     none: the reals count as up",
        "  fallback  none: while no real is up, new connections are dropped",
        "virtual d: tcp 10.0.0.5:2, scheduler rr, forward gate",
        "  check     none: the reals are never brought up",
        "  fallback  none: while no real is up, new connections are dropped",
    ]
    assert result.stderr.splitlines()[-1] == (
        f"{path}:29: warning: virtual[3]: has no [[virtual.real]]: nothing serves"
    )


def test_check_warns_and_goes_on(conf: Path) -> None:
    (conf.parent / "authkeys").unlink()
    result = lbctl("check", conf)
    assert result.exit_code == 0
    assert "virtual web" in result.stdout
    assert result.stderr == (
        f"{conf}:9: warning: ha.authkeys: {conf.parent}/authkeys: is missing; "
        f"make it with: lbctl authkeys {conf.parent}/authkeys, and copy it to every node\n"
    )


def test_check_warns_of_a_key_that_can_be_guessed(conf: Path) -> None:
    (conf.parent / "authkeys").write_text("1 sha256 hello")
    assert "key 1 is shorter than 16 characters" in lbctl("check", conf).stderr
    assert "hello" not in lbctl("check", conf).output


def test_a_single_director_needs_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(VALID.replace('[[node]]\nname = "lb2"\naddress = "192.168.1.104"\n', ""))
    result = lbctl("check", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "failover" not in result.stdout


def test_a_warning_about_the_whole_file_has_no_path(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[cluster]\ninterface = "eth0"\n[[node]]\nname = "a"\naddress = "10.0.0.1"\n')
    assert lbctl("check", path).stderr == f"{path}: warning: there is no [[virtual]]: nothing would be balanced\n"


def test_check_as_json_is_the_whole_effective_configuration(conf: Path) -> None:
    (conf.parent / "authkeys").unlink()
    result = lbctl("check", conf, "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["problems"] == []
    assert [(warning["line"], warning["path"]) for warning in said["warnings"]] == [(9, "ha.authkeys")]
    assert said["config"]["virtual"][0]["check"]["interval"] == 2.0
    assert said["config"]["virtual"][0]["fallback"] == "127.0.0.1:80"
    assert list(said["config"]) == ["cluster", "node", "ha", "connections", "alerts", "limits", "virtual"]


def test_check_refuses_with_status_2(conf: Path) -> None:
    conf.write_text(VALID.replace('preferred = "lb1"', 'preferred = "lb9"\nkeepalive = "1x"'))
    result = lbctl("check", conf)
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_status == 2
    assert [problem.line for problem in result.exception.problems] == [10, 11]
    as_json = lbctl("check", conf, "--json")
    assert as_json.exit_code == 2
    assert json.loads(as_json.stdout) == {
        "problems": [
            {"line": 10, "path": "ha.preferred", "message": "'lb9' is not a node (lb1, lb2); did you mean 'lb2'?"},
            {
                "line": 11,
                "path": "ha.keepalive",
                "message": '\'1x\' is not a duration; write "100ms", "2s", "5m", "1h", "1d" or seconds',
            },
        ]
    }


def test_the_demo_cluster_is_valid_and_has_nothing_to_warn_of() -> None:
    cluster, warnings = config.examine(ROOT / "conf" / "cluster.toml")
    assert warnings == ()
    hosts = [node.name for node in cluster.nodes] + [real.name for real in cluster.virtuals[0].reals]
    assert hosts == ["lb1", "lb2", "web1", "web2"]


def test_authkeys_writes_a_private_file_once(tmp_path: Path) -> None:
    path = tmp_path / "authkeys"
    result = lbctl("authkeys", path)
    assert result.exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = authkeys.load(path)
    again = lbctl("authkeys", path)
    assert isinstance(again.exception, UsageError)
    assert "--force" in str(again.exception)
    assert authkeys.load(path) == first
    assert lbctl("authkeys", path, "--force").exit_code == 0
    assert authkeys.load(path) != first
    assert [entry.name for entry in tmp_path.iterdir()] == ["authkeys"]


def test_authkeys_on_standard_output() -> None:
    result = lbctl("authkeys", "-")
    assert result.exit_code == 0
    assert len(authkeys.parse(result.stdout).keys) == 1


def test_authkeys_where_nothing_can_be_written(tmp_path: Path) -> None:
    missing = lbctl("authkeys", tmp_path / "none" / "authkeys")
    assert type(missing.exception) is LbctlError
    assert str(missing.exception).endswith("cannot be written: No such file or directory")
    directory = tmp_path / "directory"
    directory.mkdir()
    taken = lbctl("authkeys", directory, "--force")
    assert type(taken.exception) is LbctlError
    assert [entry.name for entry in tmp_path.iterdir()] == ["directory"]
