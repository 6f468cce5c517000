"""`lbctl realserver`: prepares a real for direct routing or a tunnel, and undoes it."""

from __future__ import annotations

from pathlib import Path

import click

from lb import config
from lb import realserver as host
from lb.cli.options import conf_argument
from lb.cli.output import json_option, out, print_json, print_table, state


@click.group()
def realserver() -> None:
    """Prepare this host as a real: virtual addresses on lo, no ARP answers for them, a tunnel's end.

    \b
    lbctl realserver up /etc/lbctl/cluster.toml
    lbctl realserver status /etc/lbctl/cluster.toml
    lbctl realserver down /etc/lbctl/cluster.toml
    """


@realserver.command()
@conf_argument
@json_option
def up(conf: Path, as_json: bool) -> None:
    """Do what this host needs as a real of CONF; nothing if it has it already.

    \b
    lbctl realserver up /etc/lbctl/cluster.toml
    """
    _report(host.up(config.load(conf)), "nothing to do: this host is ready", as_json)


@realserver.command()
@click.argument("conf", required=False, expose_value=False)
@json_option
def down(as_json: bool) -> None:
    """Undo exactly what 'up' changed here. What that was is remembered: CONF is not read and may be gone or broken.

    \b
    lbctl realserver down /etc/lbctl/cluster.toml
    """
    _report(host.down(), "nothing to do: 'lbctl realserver up' has changed nothing here", as_json)


@realserver.command()
@conf_argument
@json_option
def status(conf: Path, as_json: bool) -> None:
    """Show what this host needs as a real of CONF and what it has; exit status 1 if something is missing.

    \b
    lbctl realserver status /etc/lbctl/cluster.toml
    """
    items = host.status(config.load(conf))
    ready = all(item.ok for item in items)
    if as_json:
        print_json(
            {
                "ready": ready,
                "items": [
                    {"name": item.name, "wanted": item.wanted, "found": item.found, "ok": item.ok} for item in items
                ],
            }
        )
    else:
        rows = [(item.name, item.wanted, item.found, state("ok" if item.ok else "failed")) for item in items]
        print_table(("SETTING", "WANTED", "FOUND", "STATE"), rows)
        if not ready:
            out.print(f"\nnot ready: 'lbctl realserver up {conf}' does the rest")
    raise SystemExit(0 if ready else 1)


def _report(changes: list[str], nothing: str, as_json: bool) -> None:
    if as_json:
        print_json({"changes": changes})
    else:
        for line in changes or [nothing]:
            out.print(line)
