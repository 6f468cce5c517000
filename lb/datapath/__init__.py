"""The packet path: `DataPath` for the director, `lb.datapath.view.View` for those who only look."""

from lb.datapath.path import DataPath

__all__ = ["DataPath"]
