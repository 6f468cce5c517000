"""What the cluster tests share: the demo's cluster, and `lbctl` with the exit status that it must have."""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from lb.lab import observe

CONF = Path(__file__).parents[2] / "conf" / "cluster.toml"
VIRTUAL = "192.168.1.105"
URL = f"http://{VIRTUAL}/"

SETTLED_S = 60.0
"""How long a lab that was just raised may take, also on an emulated CPU."""


def lbctl(*words: str, exit_status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must be this one."""
    done = observe.run(*words)
    assert done.returncode == exit_status, f"lbctl {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def answers(count: int) -> Counter[str]:
    """Who answered the client at the demo's virtual address."""
    return observe.answers(count, URL)


def is_settled() -> bool:
    """Is the demo's pair whole?"""
    return observe.is_settled("lb1", "lb2")


def settle() -> None:
    """Wait until the demo's pair is whole, and have lb1 lead it: lb2 does where its program was compiled sooner."""
    observe.wait_until("the pair is whole", is_settled, SETTLED_S)
    if active() != "lb1":
        lbctl("takeover", "--node", "lb1")
        observe.wait_until("lb1 is active", lambda: active() == "lb1" and is_settled(), SETTLED_S)


@contextlib.contextmanager
def raised(path: Path, text: str, is_well: Callable[[], bool] | None = None) -> Iterator[Path]:
    """The lab of a configuration, which is written there, as soon as all is well, or the demo's pair settled if it does
    not say what that is; it is taken down at the end."""
    path.write_text(text)
    try:
        lbctl("lab", "up", str(path))
        if is_well:
            observe.wait_until("all is well", is_well, SETTLED_S)
        else:
            settle()
        yield path
    finally:
        lbctl("lab", "down", str(path))


def active() -> str:
    """Which of the two it is."""
    return "lb1" if observe.role("lb1") == "active" else "lb2"


def other(node: str) -> str:
    """Its peer."""
    return {"lb1": "lb2", "lb2": "lb1"}[node]


def edited(directory: Path, *changes: tuple[str, str]) -> Path:
    """A copy of the demo's configuration with some text replaced."""
    text = CONF.read_text()
    for old, new in changes:
        assert old in text, f"{old!r} is not in {CONF}"
        text = text.replace(old, new)
    path = directory / "cluster.toml"
    path.write_text(text)
    return path
