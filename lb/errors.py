"""What can go wrong, and with which exit status it ends a command.

    LbctlError            1  failed
    ├── ConfigError       2  the configuration is wrong; carries every problem at once
    ├── UsageError        2  the command was called wrongly
    ├── NotRunningError   3  no director, lab or data plane there to talk to
    ├── DataPathError     1  the kernel refused the program, a map or the attachment
    ├── NetworkError      1  a link, an address or a neighbour could not be read or set
    ├── FailoverError     1  a handover was refused or failed, or a key or node does not fit
    └── LabError          1  the lab could not be raised, reached or removed

A message gives the value, what would have been accepted, and the next step.
"""

from __future__ import annotations

from dataclasses import dataclass


class LbctlError(Exception):
    """Root of all errors that a user is meant to read."""

    exit_status: int = 1


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a configuration: `FILE:LINE: PATH: MESSAGE`. line counts from 1; 0 is the whole file."""

    line: int
    path: str
    message: str


class ConfigError(LbctlError):
    """A configuration that cannot be used. `str()` has one line a problem, in the file's order."""

    exit_status = 2

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One printable line a problem."""
        return [
            ": ".join(part for part in (f"{self.file}:{p.line}" if p.line else self.file, p.path, p.message) if part)
            for p in self.problems
        ]


class UsageError(LbctlError):
    """A command called with words that do not fit together."""

    exit_status = 2


class NotRunningError(LbctlError):
    """Nothing runs that could answer."""

    exit_status = 3


class DataPathError(LbctlError):
    """The packet path could not be compiled, loaded, attached or read."""


class NetworkError(LbctlError):
    """A link, address, neighbour or sysctl could not be read or changed."""


class FailoverError(LbctlError):
    """A change of roles that is not possible now, or did not come to its end."""


class LabError(LbctlError):
    """The lab could not be raised, reached or taken down."""
