"""`lbctl check` and `lbctl authkeys`: what is done before anything runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from ha import authkeys as keys
from lb import config
from lb.cli.options import conf_argument
from lb.cli.output import json_option, print_json
from lb.cli.summary import summary
from lb.errors import ConfigError, LbctlError, Problem, UsageError
from lb.model import Cluster
from lb.obstacles import obstacles
from lb.positions import Finding
from lb.rundir import authkeys_path


@click.command()
@conf_argument
@json_option
def check(conf: Path, as_json: bool) -> None:
    """Validate CONF and print what it would run. Nothing that runs is touched.

    \b
    lbctl check conf/cluster.toml
    lbctl check /etc/lbctl/cluster.toml --json

    All errors are printed at once, as FILE:LINE: PATH: MESSAGE, with exit status 2. Warnings are about what is
    legal and probably not meant; with them alone the exit status is 0.
    """
    try:
        cluster, warnings = config.examine(conf, _authkeys_advice, obstacles)
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"problems": [asdict(problem) for problem in error.problems]})
        raise SystemExit(error.exit_status) from None
    if as_json:
        effective = cluster.model_dump(mode="json", by_alias=True)
        print_json({"problems": [], "warnings": [asdict(warning) for warning in warnings], "config": effective})
        return
    for line in summary(cluster):
        click.echo(line)
    for warning in warnings:
        said = Problem(warning.line, f"warning: {warning.path}" if warning.path else "warning", warning.message)
        click.echo(ConfigError(str(conf), (said,)), err=True)


def _authkeys_advice(cluster: Cluster) -> Iterator[Finding]:
    """What `lbctl up` would say about the keys; no error here: a file may be checked where it will not run."""
    if len(cluster.nodes) < 2:
        return
    place, path = ("ha", "authkeys"), authkeys_path(cluster)
    try:
        short = keys.load(path).short
    except ConfigError as error:
        yield from (Finding((place,), line) for line in error.lines())
        return
    for key_id in short:
        message = f"{path}: key {key_id} is shorter than {keys.SHORT_KEY} characters; {keys.MEND}"
        yield Finding((place,), message)


@click.command()
@click.argument("path", type=click.Path(path_type=Path, allow_dash=True), default="authkeys")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def authkeys(path: Path, force: bool) -> None:
    """Write a new file with the directors' shared key, mode 0600, to PATH (default: authkeys; '-': print it).

    \b
    lbctl authkeys /etc/lbctl/authkeys
    scp -p /etc/lbctl/authkeys lb2:/etc/lbctl/

    \b
    To change the key while the cluster runs, do each step on every node before the next, and 'lbctl reload' after it:
    1. add a line from 'lbctl authkeys -' under another id, below the old one
    2. add the line 'auth ID' with the new id
    3. remove the old line
    """
    text = keys.generate()
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already; --force replaces it (copy it to every node then)")
    try:
        _write_private(path, text)
    except OSError as error:
        raise LbctlError(f"{path} cannot be written: {error.strerror}") from None
    click.echo(f"wrote {path} (mode 0600); copy it to every node, next to the configuration")


def _write_private(path: Path, text: str) -> None:
    """All of it or nothing, never readable by others. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
