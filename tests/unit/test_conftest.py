"""tests/conftest.py makes failures of what pytest would let pass."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"

BODIES = {
    "fine": "def test_it(): pass",
    "skip": "def test_it(): pytest.skip('not here')",
    "skip_mark": "@pytest.mark.skip(reason='not here')\ndef test_it(): pass",
    "skip_in_fixture": "@pytest.fixture\ndef tool(): pytest.skip('not here')\ndef test_it(tool): pass",
    "skip_of_module": "pytest.importorskip('nobody_has_this', reason='not here')\ndef test_it(): pass",
    "expected_failure": "@pytest.mark.xfail(reason='not here')\ndef test_it(): assert False",
    "unexpected_success": "@pytest.mark.xfail(reason='not here')\ndef test_it(): pass",
}


def test_only_a_test_that_ran_and_succeeded_passes(tmp_path: Path) -> None:
    shutil.copy(CONFTEST, tmp_path / "conftest.py")
    for name, body in BODIES.items():
        (tmp_path / f"test_{name}.py").write_text(f"import pytest\n\n{body}\n")
    command = [sys.executable, "-m", "pytest", "-rA", "--continue-on-collection-errors", "--rootdir", ".", "."]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    verdicts = re.findall(r"^(PASSED|FAILED|ERROR) test_(\w+)\.py", done.stdout, re.MULTILINE)
    assert [name for verdict, name in verdicts if verdict == "PASSED"] == ["fine"]
    assert {name for _, name in verdicts} == set(BODIES)
    assert done.stdout.count("not here") >= len(BODIES) - 1, "each failure gives the reason that the test gave"
    assert "skipped" not in done.stdout.splitlines()[-1]
    assert done.returncode == 1
