"""tests/conftest.py finds what a session left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.mark.parametrize(("cleans_up", "status"), [(True, 0), (False, 1)])
def test_a_namespace_left_behind_fails_the_session(tmp_path: Path, cleans_up: bool, status: int) -> None:
    name = f"lbctl-leftover-{os.getpid()}"
    body = [f"run(['ip', 'netns', '{action}', '{name}'], check=True)" for action in ("add", "del")[: 1 + cleans_up]]
    (tmp_path / "netns").mkdir()
    (tmp_path / "netns/test_sample.py").write_text(
        "\n    ".join(["from subprocess import run\n\ndef test_it():", *body]) + "\n"
    )
    shutil.copy(CONFTEST, tmp_path / "conftest.py")
    command = [sys.executable, "-m", "pytest", "--rootdir", ".", "."]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    assert done.returncode == status, done.stdout
    assert (f"/run/netns/{name}" in done.stdout) is not cleans_up
