"""The command line. `COMMANDS` is its table of contents; each row names where the command is written.

Modules are imported when their command runs (or its help is shown), so that `lbctl status` does not pay for the lab.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from lb.errors import LbctlError

COMMANDS: dict[str, str] = {
    "check": "lb.cli.config:check",
    "import": "lb.cli.migrate:import_",
    "authkeys": "lb.cli.config:authkeys",
    "up": "lb.cli.run:up",
    "down": "lb.cli.control:down",
    "status": "lb.cli.status:status",
    "list": "lb.cli.list:list_",
    "reload": "lb.cli.control:reload",
    "drain": "lb.cli.control:drain",
    "enable": "lb.cli.control:enable",
    "weight": "lb.cli.control:weight",
    "standby": "lb.cli.control:standby",
    "takeover": "lb.cli.control:takeover",
    "realserver": "lb.cli.realserver:realserver",
    "lab": "lb.cli.lab:lab",
    "doctor": "lb.cli.doctor:doctor",
}

TRACE_VARIABLE = "LBCTL_TRACE"
"""Set, an unexpected error shows its trace; for reports of mistakes."""


class LazyGroup(click.Group):
    """A group whose commands are imported on demand from `COMMANDS`, listed in that order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lbctl", prog_name="lbctl")
def cli() -> None:
    """Layer-4 load balancer: XDP direct routing, health checks, connection sync and failover in one program.

    \b
    Try it on this machine:      lbctl lab up conf/cluster.toml
                                 lbctl lab exec client -- curl http://192.168.1.105/
    On a director:               lbctl check /etc/lbctl/cluster.toml
                                 lbctl up /etc/lbctl/cluster.toml
    On a real server:            lbctl realserver up /etc/lbctl/cluster.toml
    Look at it:                  lbctl status --watch
                                 lbctl list --connections

    Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 not running.
    LBCTL_TRACE=1 shows where an unexpected error comes from.
    Shell completion (bash): eval "$(_LBCTL_COMPLETE=bash_source lbctl)"; zsh and fish likewise.
    """


def main() -> None:
    """Entry point: run a command and turn whatever goes wrong into a message and an exit status."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="replace")  # a terminal without our arrows gets '?'
    try:
        cli.main(prog_name="lbctl", standalone_mode=True)
    except LbctlError as error:
        for line in str(error).splitlines():
            click.echo(line if error.exit_status == 2 else f"lbctl: {line}", err=True)
        sys.exit(error.exit_status)
    except Exception as error:
        if os.environ.get(TRACE_VARIABLE):
            raise
        click.echo(f"lbctl: {_last_words(error)}", err=True)
        os._exit(1)  # what is still buffered could not be written either


def _last_words(error: Exception) -> str:
    """What to say of an error that no command expected: the system's own word for it, or that it is our mistake."""
    where = f"{TRACE_VARIABLE}=1 before the command shows where"
    if not isinstance(error, OSError) or error.strerror is None:
        return f"a mistake in lbctl, {type(error).__name__}: {error}; please report it ({where})"
    place = f"{error.filename}: " if error.filename else ""
    mend = "; run it as root" if isinstance(error, PermissionError) and os.geteuid() else ""
    return f"{place}{error.strerror.lower()}{mend} ({where})"
