"""`lbctl import`: the files of ldirectord, keepalived and ipvsadm as a configuration."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from lb import config, migrate
from lb.errors import ConfigError, LbctlError, UsageError


@click.command(name="import")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--from", "format_", type=click.Choice(list(migrate.FORMATS)), help="Whose file it is, if it is not seen."
)
@click.option("--node", "nodes", multiple=True, metavar="NAME=ADDRESS", help="A director; once for each.")
@click.option("--interface", help="Where the directors balance.  [default: what the file says, else eth0]")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write there, not to standard output.")
def import_(file: str, format_: str | None, nodes: tuple[str, ...], interface: str | None, output: str | None) -> None:
    """Translate FILE, an ldirectord.cf, a keepalived.conf or what 'ipvsadm -S -n' printed, into a cluster.toml.

    \b
    lbctl import /etc/ha.d/ldirectord.cf --node lb1=192.168.1.103 --node lb2=192.168.1.104 -o cluster.toml
    ipvsadm -S -n | lbctl import -

    What is not translated, or not as it stands there, is told as FILE:LINE: DIRECTIVE: WHY; and what the result still
    lacks, as 'lbctl check' would. Names of hosts are not looked up, nothing that runs is touched, and an existing file
    is not written over.
    """
    words = _read(file)
    name = format_ or migrate.guess(words)
    if name is None:
        known = ", ".join(migrate.FORMATS)
        raise UsageError(f"{file} looks like nobody's file; say whose it is: --from ({known})")
    draft = migrate.FORMATS[name](words, _port_of)
    if not draft.virtuals and not draft.notes:
        raise UsageError(f"{file} has nothing that {name} would read; say whose it is with --from")
    draft.cluster["interface"] = interface or draft.cluster.get("interface", "eth0")
    result = migrate.text(draft, dict(map(_node, nodes)))
    for note in draft.notes:
        click.echo(f"{file}:{'' if note.line else ' '}{note}", err=True)
    _write(result, output)
    try:
        config.parse(result, output or "cluster.toml")
    except ConfigError as error:
        click.echo(f"Still to be done:\n{error}", err=True)


def _read(file: str) -> str:
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    return data.decode(errors="replace")


def _write(result: str, output: str | None) -> None:
    if output is None:
        click.echo(result, nl=False)
        return
    try:
        with open(output, "x", encoding="utf-8", opener=_private) as file:
            file.write(result)
    except FileExistsError:
        raise LbctlError(f"{output} is there already; name another file, or move it away") from None


def _private(path: str, flags: int) -> int:
    """Checks have passwords."""
    return os.open(path, flags, 0o600)


def _node(words: str) -> tuple[str, str]:
    name, _, address = words.partition("=")
    if not name or not address:
        raise UsageError(f"--node {words!r} is not NAME=ADDRESS, like lb1=192.168.1.103")
    return name, address


def _port_of(name: str, protocol: str) -> int | None:
    try:
        return socket.getservbyname(name, protocol)
    except OSError:
        return None
