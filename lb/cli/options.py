"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from lb import rundir

conf_argument = click.argument("conf", type=click.Path(path_type=Path))


def _running_nodes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    return [CompletionItem(p.stem) for p in rundir.RUN_DIR.glob("*.sock") if p.stem.startswith(incomplete)]


def node_option(text: str = "Which director on this machine; default: the one of this host.") -> Callable[[Any], Any]:
    """`--node NAME`, also from the environment variable LBCTL_NODE (the lab sets it in its hosts)."""
    return click.option("--node", metavar="NAME", envvar="LBCTL_NODE", shell_complete=_running_nodes, help=text)
