"""The name by which another process finds a function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

_WHAT_TO_DO = "define it with a plain def, at the top of a module that can be imported."

F = TypeVar("F", bound=Callable[..., Any])


class Decorated(Generic[F]):
    """What a decorator has left under the name of a function.

    Attributes:
        function: The function.
    """

    def __init__(self, function: F) -> None:
        self.function = function


def plain(found: object) -> object:
    """Return the function that was decorated, and whatever else as it is."""
    while isinstance(found, Decorated):
        found = cast("Any", found).function
    return found


@dataclass(frozen=True)
class ImportName:
    """The name by which another process finds a function: its module's and, in there, its own.

    Attributes:
        module: The module's.
        qualname: Its own.
    """

    module: str
    qualname: str

    @classmethod
    def of(cls, function: Callable[..., Any]) -> ImportName:
        """Return a function's.

        Raises:
            TypeError: It is one that no other process can find.
        """
        module: object = getattr(function, "__module__", None)
        qualname: object = getattr(function, "__qualname__", None)
        if not (isinstance(module, str) and isinstance(qualname, str)):
            raise TypeError(f"{function!r} has no name to be found by elsewhere: {_WHAT_TO_DO}")
        if module == "__main__":
            raise TypeError(
                f"{qualname} is in the script that was started, which another process can't "
                "import: move it into a module of its own."
            )
        if "<" in qualname:  # "<lambda>", or "outer.<locals>.inner"
            raise TypeError(f"{qualname} can't be found by that name elsewhere: {_WHAT_TO_DO}")
        return cls(module, qualname)

    def loaded(self) -> object:
        """Return what bears the name in this process; None if nothing does."""
        module = sys.modules.get(self.module)
        return None if module is None else self._in(module)

    def find(self) -> object:
        """Import what bears the name.

        Raises:
            LookupError: Nothing in the module does.
            ImportError: There is no such module. It may raise anything else, too.
        """
        found = self._in(importlib.import_module(self.module))
        if found is None:
            raise LookupError(f"{self.qualname} is not in {self.module} when that is imported.")
        return found

    def _in(self, module: ModuleType) -> object:
        found: object = module
        for name in self.qualname.split("."):
            found = getattr(found, name, None)
        return found
