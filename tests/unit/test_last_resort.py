"""No trace reaches a user: what no command expected is said in one line, with the way to the trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONF = Path(__file__).parents[2] / "conf" / "cluster.toml"


def run(*words: str, stdout: str = "/dev/null", **env: str) -> subprocess.CompletedProcess[str]:
    with Path(stdout).open("w") as out:
        return subprocess.run(
            [sys.executable, *words], stdout=out, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
            env={**os.environ, **env},
        )  # fmt: skip


@pytest.mark.parametrize("words", [("check", str(CONF)), ("check", str(CONF), "--json"), ("authkeys", "-"), ("-h",)])
def test_a_full_disk_is_one_line_and_1(words: tuple[str, ...]) -> None:
    done = run("-m", "lb", *words, stdout="/dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("lbctl: no space left on device (LBCTL_TRACE=1")
    assert "Traceback" not in done.stderr


def test_the_trace_is_there_for_who_asks() -> None:
    assert "Traceback" in run("-m", "lb", "check", str(CONF), stdout="/dev/full", LBCTL_TRACE="1").stderr


def test_a_mistake_of_ours_is_called_one() -> None:
    code = "import lb.cli; lb.cli.COMMANDS['check'] = 'lb.errors:nothing'; lb.cli.main()"
    done = run("-c", code, "check")
    assert done.returncode == 1
    assert done.stderr.startswith("lbctl: a mistake in lbctl, AttributeError: ")


def test_a_name_longer_than_any_socket_is_not_running() -> None:
    done = run("-m", "lb", "status", "--node", "x" * 300)
    assert done.returncode == 3
    assert "does not run" in done.stderr


def test_a_terminal_without_our_letters() -> None:
    code = "import lb.cli; from lb.cli.output import out; lb.cli.cli.callback = lambda: out.print('→'); lb.cli.main()"
    assert run("-c", code, "status", "--node", "nobody", PYTHONIOENCODING="ascii").returncode == 3


def test_a_log_that_cannot_be_written_is_no_error() -> None:
    code = "import structlog; from lb import logs; logs.configure(); structlog.get_logger().info('x')"
    assert run("-c", code, stdout="/dev/full").returncode == 0
    assert subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "{code}" >&-'], check=False).returncode == 0
