"""Names of a package that are loaded when they are first used, so that a program pays for what it uses.

A package whose `__init__` has `__getattr__ = at_first_use(globals(), HOMES)` offers names of its modules without
loading them: `runtime.Node` loads the module of `Node` at that instant, and is an attribute like any other from then
on. An `if TYPE_CHECKING` block imports the same names for type checkers; a test holds the two together.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def at_first_use(package: dict[str, Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a package's `__getattr__`: `homes` names a module, and the names that it is the home of, with spaces."""
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def load(name: str) -> Any:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        value = package[name] = getattr(import_module(home), name)
        return value

    return load
