"""Completion in the shell, as the help text of lbctl tells to set it up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def lbctl(**variables: str) -> str:
    """What lbctl prints under these environment variables."""
    command = [sys.executable, "-m", "lb"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    return done.stdout


def test_bash_takes_the_script() -> None:
    script = lbctl(_LBCTL_COMPLETE="bash_source")
    done = subprocess.run(["bash"], input=f"{script}\ncomplete -p lbctl", capture_output=True, text=True, check=True)
    assert done.stdout.endswith(" lbctl\n")
    assert done.stderr == ""


@pytest.mark.parametrize(("typed", "offered"), [("dr", ["drain"]), ("ta", ["takeover"]), ("zz", [])])
def test_commands_are_completed(typed: str, offered: list[str]) -> None:
    words = lbctl(_LBCTL_COMPLETE="bash_complete", COMP_WORDS=f"lbctl {typed}", COMP_CWORD="1").split()
    assert [word.partition(",")[2] for word in words] == offered
