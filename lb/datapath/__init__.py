"""The packet path: `DataPath` for the director, `lb.datapath.view.View` for those who only look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lb.datapath.path import DataPath

__all__ = ["DataPath"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: the compiling child is a module of this package and needs none of it."""
    if name != "DataPath":
        raise AttributeError(name)
    from lb.datapath.path import DataPath

    return DataPath
